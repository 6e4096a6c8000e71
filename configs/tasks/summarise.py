"""Summaries: a line for a package of Debian by its long description, from nothing.

An encoder-decoder of T5's kind, 3M parameters, on 55,000 descriptions; see
configs/family/t5.py for its scales.

Run: ./launch.sh train --config=configs/tasks/summarise.py
     ./launch.sh train --config=configs/tasks/summarise.py --workdir=runs/leads
       --config.task.train=wikipedia:en --config.task.summary=description
Not measured yet.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=1_200, batch=16, seq=256))
  cfg.task = dict(name="summarise", train="debian:en", max_tokens=32, targets=64)
  cfg.model = dict(
    family="encdec",
    preset="t5-tiny",
    scan=False,
    width=192,
    source_layers=3,
    layers=3,
    head_size=48,
    ff=512,
    divided=True,
    unit_table=False,
    dropout=0.1,
  )
  cfg.data = dict(tokenizer="bpe-4096")
  cfg.loss = dict(smoothing=0.1)
  cfg.optim = dict(
    name="muon", lr=1e-2, warmup=100, lr_mult=((".*distances/table", 10.0), (".*", 1.0))
  )
  cfg.eval = dict(every=400)
  return cfg
