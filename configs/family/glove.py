"""GloVe: vectors from how often words meet, on Shakespeare's works.

Pennington et al. 2014, https://aclanthology.org/D14-1162. A row holds pairs of words
and not text; pairs meet within 10 words, and one pair in 50 is held out.

Run: ./launch.sh train --config=configs/family/glove.py
Measured 2026-11-22 on 2 virtual cores (AMX): 21 seconds in all; a weighted squared
error of 0.0156 per held-out pair, from 0.149; WordSim-353 0.28 over the 104 pairs that
Shakespeare knows.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=500, batch=64, seq=1_024, objective="glove"))
  cfg.model = dict(family="glove", preset="glove-50", scan=False)
  cfg.data = dict(source="shakespeare", tokenizer="words-8000", rows="cooccurrence-10")
  cfg.data.clean = dict(dedup="minhash")
  cfg.optim = dict(lr=1e-2, schedule="wsd", warmup=20, decay=0.0, clip=0.0)
  cfg.checkpoint = dict(every=0, keep=1)
  cfg.eval = dict(every=200, batches=4, score="error_per_pair")
  return cfg
