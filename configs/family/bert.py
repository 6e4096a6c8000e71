"""BERT kind, 2M parameters, on Shakespeare's works: hidden tokens, read both ways.

Devlin et al. 2018, arXiv:1810.04805. The held-out figures are those of pseudo-
perplexity (arXiv:1910.14659), hiding every seventh token: every token of four whole
plays is hidden once, and named from what is on both sides of it. Unlike BERT's,
positions are rotary: with learned ones, 500 steps stay at guessing by frequency.

Run: ./launch.sh train --config=configs/family/bert.py
Measured 2026-11-22 on 2 virtual cores (AMX), some other work running: 7.2 minutes;
held out 3.74 nats per hidden token (6.05 by frequency alone), 2.02 bits per byte.
"""

from ml_collections import ConfigDict


def get_config():
  cfg = ConfigDict(dict(num_steps=2_000, batch=16, seq=128, objective="masked_lm"))
  cfg.model = dict(
    family="encoder",
    preset="bert-tiny",
    dtype="bfloat16",
    scan=False,
    context=128,
    width=192,
    layers=4,
    positions="rotary",
    post_norm=False,
    qk_norm="head",
    types=0,
  )
  cfg.data = dict(source="shakespeare", tokenizer="bpe-2048")
  cfg.data.clean = dict(dedup="minhash")
  cfg.data.corrupt = dict(name="masked")
  cfg.optim = dict(name="muon", lr=3e-2, warmup=100, decay=0.2)
  cfg.eval = dict(batches=50)
  return cfg
