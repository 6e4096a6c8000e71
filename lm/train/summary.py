"""Lines about a run: at its start, where it continues, and at its end.

`opening` is printed before the first update, `schedule_change` where a run continues
with another number of steps, `verdict` when it has ended worse than it might.
"""

import math
import shlex

import jax
import numpy as np

from lm import log, metrics, models, optim
from lm.log.progress import counted, size_text
from lm.nn.depth import Run as Options

# Fields that say how a model is computed: no preset is meant by them.
COMPUTED = (*Options.__dataclass_fields__, "backend", "chunk")


def opening(run, folder) -> str:
  """Returns lines about a run: its model, updates, data, devices and files.

  `run` is a `compose.Run`, `folder` its RunFolder.
  """
  rows = {
    "model": _model(run),
    "updates": _updates(run.experiment),
    "data": _data(run),
    "devices": _devices(run),
    "metrics": str(folder.metrics_file),
  }
  e = run.experiment
  if "tensorboard" in e.log.names:
    rows[""] = f"tensorboard --logdir={shlex.quote(str(folder.path.absolute()))}"
  if e.optim.warmup > e.num_steps:
    text = f"takes all {e.num_steps:,} steps; optim.warmup={e.optim.warmup:,} is more"
    rows |= {"warm-up": text}
  return "\n".join(f"{name:<9}{text}" for name, text in rows.items())


def _model(run) -> str:
  fields, store = run.experiment.model, run.plan.store
  family, preset = fields["family"], fields.get("preset", "")
  given = store.fields if store else models.defaults(family, preset)
  origin = f", preset {preset}" if preset else ""
  if store:
    origin = f", as in {store.path}"
  changes = [
    f"{name}={value!r}"
    for name, value in models.fields(run.model).items()
    if name in given and name not in COMPUTED and value != given[name]
  ]
  joined = f" {'but' if origin else 'with'} {', '.join(changes)}" if changes else ""
  count = _size(run.trainer.abstract.params)
  if run.adapter is None:
    return f"{family}{origin}{joined}: {count:,} parameters"
  total = _size(run.adapter.shapes)
  return f"{family}{origin}{joined}: trains {count:,} beside {total:,} parameters"


def _size(tree) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _updates(e) -> str:
  tokens, o = e.batch * e.seq, e.optim
  warmup = f", warm-up {o.warmup:,}" if o.warmup else ""
  return (
    f"{e.objective}, {o.name} at {o.lr:g} ({o.schedule}{warmup}): "
    f"{counted(e.num_steps, 'step')} of {e.batch} x {e.seq} = {tokens:,} tokens"
  )


def _data(run) -> str:
  e = run.experiment
  epochs = run.batches.epoch(e.num_steps)
  splits = run.dataset.manifest["splits"]
  train, heldout = (
    f"{counted(splits[name]['documents'], 'document')}, "
    f"{counted(splits[name]['tokens'], 'token')}"
    for name in ("train", "heldout")
  )
  return (
    f"{', '.join(e.sources)} in {e.data.tokenizer}: {train} ({epochs:.2g} epochs); "
    f"held out {heldout}"
  )


def _devices(run) -> str:
  mesh, state = run.plan.mesh, jax.tree.leaves(run.trainer.abstract)
  axes = ", ".join(f"{name}={n}" for name, n in mesh.shape.items() if n > 1)
  count, kind = mesh.size, mesh.devices.flat[0].device_kind
  size = sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in state
  )
  return (
    f"{count} {kind}{f' ({axes})' if axes else ''}, "
    f"{run.model.config.run.dtype} matmuls, state of {size_text(size)}"
    f"{' on each' if count > 1 else ''}"
  )


def schedule_change(e, before: int, step: int) -> str:
  """Returns a line where `num_steps` was `before`, and the rate is another one now.

  `step` counts the updates that were made. "" where the rate goes on as it was.
  """
  old, new = (
    [float(optim.make_schedule(e.optim, n)(at)) for at in (step - 1, step)]
    for n in (before, e.num_steps)
  )
  if np.allclose(old, new, rtol=1e-3):
    return ""
  return (
    f"the schedule is another one with num_steps={e.num_steps:,}, {before:,} until "
    f"now: after step {step:,} the learning rate goes from {old[0]:.3g} to {new[1]:.3g}"
  )


def verdict(metrics_file, dataset) -> list[str]:
  """Returns a line for each sign that a run that ended has learnt nothing.

  They are a training loss above that of the start, and held-out nats per token above
  those of guessing by frequency.
  """
  rows, lines = log.read(metrics_file), []
  losses = [row["train/loss"] for row in rows if "train/loss" in row]
  heldout = [row["eval/nats_per_token"] for row in rows if "eval/nats_per_token" in row]
  tenth = max(1, len(losses) // 10)
  if len(losses) > 1 and sum(losses[-tenth:]) > sum(losses[:tenth]):
    first, last = (np.mean(part) for part in (losses[:tenth], losses[-tenth:]))
    lines.append(
      f"note: the training loss rose, from {first:.4g} to {last:.4g}; try a lower "
      "optim.lr"
    )
  by_frequency = metrics.entropy(dataset.counts("heldout")) if heldout else 0
  if heldout and heldout[-1] > by_frequency:
    lines.append(
      f"note: {heldout[-1]:.4g} nats per held-out token, and guessing by frequency "
      f"takes {by_frequency:.4g}: it needs more steps, more text or another optim.lr"
    )
  return lines
