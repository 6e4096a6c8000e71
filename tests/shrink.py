"""Any config, made small: a test's second instead of a user's hours.

Also a config itself: --config=tests/shrink.py:shakespeare is configs/shakespeare.py,
shrunk, and --config=tests/shrink.py is its base.
"""

import pathlib

from experiments import config as settings
from lm import models

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"

# Names of sizes in all families; a config or a family may lack some of them.
MODEL = dict(
  width=16, layers=2, heads=2, kv_heads=0, ff=32, context=64, scan=True, head_size=0
)
RUN = dict(num_steps=2, batch=8, seq=16)
WRITTEN = dict(max_tokens=8, targets=0)  # of tasks that write a text
SHORT = dict(every=0, batches=1, sample_tokens=0)


def names() -> list[str]:
  """Returns the names of this project's configs, as "shakespeare" or "tasks/sst2"."""
  paths = CONFIGS.rglob("*.py")
  return sorted(p.relative_to(CONFIGS).with_suffix("").as_posix() for p in paths)


def config(name: str):
  """Returns the config `name` as its file has it."""
  return settings.execute(str(CONFIGS / f"{name}.py"))


def shrink(cfg):
  """Makes `cfg` the same kind of run of two steps on few tokens, and returns it."""
  cfg.update(RUN)
  if "init" in cfg:
    cfg.init.path = ""  # real weights are large
  if cfg.get("task", {}).get("labelled"):
    cfg.task.labelled = 10
  if cfg.get("task", {}).get("name") == "prefer":
    cfg.model = dict(family="decoder", preset="gpt2-tiny")
  if "family" not in cfg.model:
    cfg.model = dict(family="encoder", preset="bert-tiny", pooler=True)
    if cfg.get("task", {}).get("name") == "chat":
      cfg.model = dict(family="decoder", preset="llama-tiny")
  family = cfg.model.family
  fields = models.defaults(family, cfg.model.get("preset", ""))
  cfg.model.update({name: value for name, value in MODEL.items() if name in fields})
  if "max_tokens" in cfg.get("task", {}):
    cfg.task.update({n: v for n, v in WRITTEN.items() if n in cfg.task})
  cfg.optim.warmup = 1
  cfg.eval = dict(cfg.get("eval", {})) | SHORT
  cfg.checkpoint = {"every": 0}
  return cfg


def get_config(name=None):
  return shrink(config(name or "shakespeare"))
