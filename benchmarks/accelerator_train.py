"""Training step of lm on one device, with depth scanned and unrolled.

A side of benchmarks/accelerator.py: bfloat16 operands, float32 parameters and AdamW.
FLOPs are those of the model, three times its forward pass, whatever attention skips.
"""

import argparse
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.accelerator_process import serve, summary
from benchmarks.accelerator_shapes import FULL, repeats, sizes
from lm import models, platform, train
from lm.letters import abstract, batch_shardings, make_mesh
from lm.objectives.next_token import next_token
from lm.optim import Optim

DTYPE = "bfloat16"
FORMS = ("scanned", "unrolled")


@dataclass
class Update:
  """A compiled update, its state and its measurements."""

  step: Any  # (state, batch, root_key) -> (state, metrics)
  state: Any
  batch: dict
  compile_s: float
  memory_bytes: int  # the most that the device holds at once, by the compiler's plan

  def seconds(self, count: int) -> float:
    """Returns the seconds of an update, over `count` of them run back to back."""
    root, start = jax.random.key(0), time.perf_counter()
    for _ in range(count):
      self.state, metrics = self.step(self.state, self.batch, root)
    jax.block_until_ready((self.state, metrics))
    return (time.perf_counter() - start) / count


OPTIM = Optim("adamw", lr=1e-4, schedule="constant", decay=0.01)


def assemble(model, batch: dict, mesh):
  """Returns the Trainer of `model` by AdamW on next tokens."""
  return train.build(model, next_token, OPTIM, mesh, batch=batch, num_steps=1000)


def flops(model, batch: dict) -> int:
  """Returns the FLOPs of an update."""

  def loss(params):
    return next_token(model.apply, params, batch, jax.random.key(0))["loss"][0]

  params, _ = abstract(model, batch["tokens_BT"])
  return platform.model_flops(loss, params)


def compiled(model, batch: dict, mesh) -> Update:
  """Returns the compiled Update of a model."""
  trainer = assemble(model, batch, mesh)
  batch = jax.device_put(batch, batch_shardings(mesh, batch))
  root, start = jax.random.key(0), time.perf_counter()
  step = trainer.step.lower(trainer.abstract, batch, root).compile()
  compile_s = time.perf_counter() - start
  memory = step.memory_analysis()
  state, peak_bytes = trainer.init(root), memory.peak_memory_in_bytes
  update = Update(step, state, batch, compile_s, peak_bytes)
  update.seconds(2)
  return update


def results(fields: dict, B: int, T: int, round_s: float):
  """Yields the forms and FLOPs, then each compiled form, then seconds by round."""
  device = jax.devices()[0]
  mesh = make_mesh([device])
  draw = np.random.default_rng(0)
  tokens_BT = draw.integers(0, fields["vocab"], (B, T), np.int32)
  batch = {
    "tokens_BT": tokens_BT,
    "targets_BT": np.roll(tokens_BT, -1, 1),
    "weights_BT": np.ones((B, T), np.float32),
  }
  build = partial(models.build, "decoder", dtype=DTYPE, **fields)
  updates, counts = {}, {}
  with jax.set_mesh(mesh):
    yield {
      "forms": FORMS,
      "flops": flops(build(scan=True, backend="xla"), batch),
      "peak_flops": platform.peak_flops(device, DTYPE),
    }
    for form in FORMS:
      try:
        update = compiled(build(scan=form == "scanned"), batch, mesh)
      except Exception as problem:  # such as a lack of memory: the other form may do
        yield {"problem": summary(problem)}
        continue
      first_s = update.seconds(2)
      updates[form], counts[form] = update, repeats(first_s, round_s)
      yield {
        "tokens": tokens_BT.size,
        "compile_s": update.compile_s,
        "memory_bytes": update.memory_bytes,
        "first_s": first_s,
      }
    while True:
      yield {form: updates[form].seconds(n) for form, n in counts.items()}


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("shape", choices=FULL.trained)
  parser.add_argument("--tiny", action="store_true")
  args = parser.parse_args()
  chosen = sizes(args.tiny)
  serve(results(*chosen.trained[args.shape], chosen.round_s))
