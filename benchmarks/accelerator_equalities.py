"""Equalities of two families on this device: a part of tests/laws, without pytest.

A side of benchmarks/accelerator.py. An error is the norm of the difference over the
norm of the expected tree, of logits or gradients. float32 is computed at the highest
precision of matmuls; bfloat16 has 8 bits.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.accelerator_process import serve, summary
from lm import models, trees
from lm.letters import abstract

VOCAB, LAYERS = 250, 2
FAMILIES = {
  "decoder": dict(preset="llama_tiny", width=256, heads=4, kv_heads=2, ff=512),
  "mamba2": dict(width=128, heads=4, groups=2, state=16, chunk=16),
}
TOLERANCES = {"float32": 1e-4, "bfloat16": 2e-2}
SIZE = dict(B=4, T=128, prompt=96, dtypes=("float32", "bfloat16"))
TINY = dict(B=2, T=16, prompt=13, dtypes=("float32",))


def noise(model, tokens_BT):
  """Returns random parameters: zeros and ones would hide missing connections."""
  draw = np.random.default_rng(0)

  def leaf(path, shape):
    mean = 1 if trees.path_name(path).endswith("scale") else 0
    values = mean + 0.05 * draw.standard_normal(shape.shape, np.float32)
    return jnp.asarray(values)

  shapes, _ = abstract(model, tokens_BT)
  return jax.tree_util.tree_map_with_path(leaf, shapes)


def logits(model, params, tokens_BT):
  """Returns logits_BTV of the forward pass over whole rows."""
  return jax.jit(lambda p, x: model.apply({"params": p}, x)[0])(params, tokens_BT)


def decoded(model, params, tokens_BT, *, prompt: int):
  """Returns logits_BTV of a prompt read at once, then the rows token by token."""
  step = jax.jit(lambda p, x, cache: model.apply({"params": p}, x, cache=cache))
  B, T = tokens_BT.shape
  logits_BTV, cache = step(params, tokens_BT[:, :prompt], model.init_cache(B, T))
  pieces = [logits_BTV]
  for t in range(prompt, T):
    logits_B1V, cache = step(params, tokens_BT[:, t : t + 1], cache)
    pieces.append(logits_B1V)
  return jnp.concatenate(pieces, axis=1)


def gradients(model, params, tokens_BT):
  """Returns the gradients of the mean nats of the next tokens."""

  def loss(params):
    logits_BTV, _ = model.apply({"params": params}, tokens_BT[:, :-1], train=True)
    targets_BT = tokens_BT[:, 1:]
    nats_BT = optax.softmax_cross_entropy_with_integer_labels(logits_BTV, targets_BT)
    return jnp.mean(nats_BT)

  return jax.jit(jax.grad(loss))(params)


def equalities(build, params, tokens_BT, *, prompt: int) -> dict:
  """Returns {equality: (function -> actual, function -> expected)}."""
  scanned = build(scan=True)
  trained = partial(gradients, params=params, tokens_BT=tokens_BT)
  return {
    "cached decoding = full forward pass": (
      partial(decoded, scanned, params, tokens_BT, prompt=prompt),
      partial(logits, scanned, params, tokens_BT),
    ),
    "scan = loop": (
      partial(trained, scanned),
      partial(trained, build(scan=False)),
    ),
    "remat = plain": (
      partial(trained, build(scan=True, remat="full")),
      partial(trained, scanned),
    ),
  }


def error(actual, expected) -> float:
  """Returns the relative norm of the difference; inf for NaN."""
  difference = optax.tree.norm(jax.tree.map(jnp.subtract, actual, expected))
  value = float(difference / optax.tree.norm(expected))
  return value if np.isfinite(value) else float("inf")


def results(B: int, T: int, prompt: int, dtypes):
  draw = np.random.default_rng(0)
  tokens_BT = jnp.asarray(draw.integers(0, VOCAB, (B, T), np.int32))
  for family, fields in FAMILIES.items():
    for dtype in dtypes:
      fields = fields | dict(vocab=VOCAB, layers=LAYERS, dtype=dtype)
      build = partial(models.build, family, **fields)
      params = noise(build(scan=True), tokens_BT)
      cases = equalities(build, params, tokens_BT, prompt=prompt)
      for equality, (actual, expected) in cases.items():
        result = {"family": family, "dtype": dtype, "equality": equality}
        precision = "highest" if dtype == "float32" else "default"
        try:
          with jax.default_matmul_precision(precision):
            distance = error(actual(), expected())
        except Exception as problem:  # a compiler's own: the next equality may hold
          yield result | {"problem": summary(problem)}
          continue
        tolerance = TOLERANCES[dtype]
        ok = distance <= tolerance
        yield result | {"error": distance, "tolerance": tolerance, "ok": ok}


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tiny", action="store_true")
  serve(results(**(TINY if parser.parse_args().tiny else SIZE)))
