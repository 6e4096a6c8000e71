"""Similarity of sentences, a number for each pair, from a pretrained encoder.

Run: ./launch.sh train --config=configs/tasks/similarity.py --config.init.path=MODEL
       --config.task.train=tsv:A.tsv                    # columns text, pair and score
     ./launch.sh train --config=configs/tasks/similarity.py --config.init.path=MODEL
       --config.task.train=tfds:glue/stsb --config.task.text=sentence1
       --config.task.pair=sentence2 --config.task.value=label    # STS-B
Not measured: no package has pairs of sentences with a graded similarity.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=1_000, batch=8, seq=128))
  cfg.task = dict(name="regress", train="", pair="pair")
  cfg.init = dict(path="")
  cfg.model = dict(scan=False)
  cfg.optim = dict(lr=5e-5, warmup=100, schedule="linear", final=0.0)
  cfg.eval = dict(every=200)
  return cfg
