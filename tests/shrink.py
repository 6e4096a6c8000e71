"""Any config, made small: a test's second instead of a user's hours.

Also a config itself: --config=tests/shrink.py:shakespeare is configs/shakespeare.py,
shrunk, and --config=tests/shrink.py is its base.
"""

import importlib.util
import pathlib

from lm import models

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"

# What all families call these; a config need not set them all, nor a family have them.
MODEL = dict(
  width=16, layers=2, heads=2, kv_heads=0, ff=32, context=64, scan=True, head_size=0
)
RUN = dict(num_steps=2, batch=8, seq=16)


def names() -> list[str]:
  """The configs of this project, as "shakespeare" or "tasks/sst2"."""
  found = CONFIGS.rglob("*.py")
  return sorted(p.relative_to(CONFIGS).with_suffix("").as_posix() for p in found)


def config(name: str):
  """The config `name` as it is."""
  path = CONFIGS / f"{name}.py"
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


def shrink(cfg):
  """The same kind of run, of two steps on few tokens; `cfg` itself, changed."""
  with cfg.unlocked():
    cfg.update(RUN)
    fields = models.defaults(cfg.model.family)
    cfg.model.update({k: v for k, v in MODEL.items() if k in fields})
    cfg.optim.warmup = 1
    cfg.eval.update(every=0, batches=1, sample_tokens=0)
    cfg.checkpoint.every = 0
  return cfg


def get_config(name=None):
  return shrink(config(name or "shakespeare"))
