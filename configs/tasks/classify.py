"""Classification of one's own labelled texts, from a pretrained model.

Run: ./launch.sh train --config=configs/tasks/classify.py --config.task.train=csv:A.csv
       --config.task.text=text --config.task.label=label --config.init.path=MODEL
Not measured by itself; sentiment.py, whose values are nearly these, has figures.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=1_000, batch=4, seq=128))
  cfg.task = dict(name="classify", train="")
  cfg.init = dict(path="")
  cfg.model = dict(scan=False)
  cfg.optim = dict(lr=1e-4, warmup=100, schedule="linear", final=0.0)
  cfg.eval = dict(every=200, score="-accuracy")
  return cfg
