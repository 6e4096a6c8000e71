"""Attention backends beside the reference, value and gradients, on this device.

A side of benchmarks/accelerator.py. Errors are relative to the largest value of the
reference in float32 at the highest precision. A backend in bfloat16 may err twice as
much as the reference itself does in bfloat16.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator_process import serve, summary
from lm.errors import Mistake
from lm.nn.attention import backends
from lm.nn.attention.masks import Mask

SIZES = dict(B=2, T=2048, N=16, H=64)
TINY = dict(B=2, T=128, N=4, H=16)
TINY_CASES = ("grouped", "segments", "softcap")
CALLS = 20  # timed together, to leave out the time of the host


def cases(T: int, N: int, segments_BT) -> dict:
  """Returns {title: (mask, kv heads, softcap)}; a window is an eighth of the row."""
  packed = Mask(None, None, segments_BT, segments_BT)
  return {
    "causal": (Mask(), N, 0.0),
    "grouped": (Mask(), N // 4, 0.0),
    "window": (Mask(window=T // 8), N, 0.0),
    "segments": (packed, N, 0.0),
    "softcap": (Mask(), N, 30.0),
    "all of these": (packed.replace(window=T // 8), N // 4, 30.0),
    "both ways": (Mask(causal=False), N, 0.0),
  }


def gradients(backend: str, *, softcap: float, dtype: str):
  """Returns a jitted (q, k, v, g, mask) -> (y_BTNH, gradients to q, k and v)."""

  def weighted(q_BTNH, k_BSKH, v_BSKH, g_BTNH, mask):
    y_BTNH = backends.attend(
      backend,
      q_BTNH,
      k_BSKH,
      v_BSKH,
      mask,
      scale=q_BTNH.shape[-1] ** -0.5,
      softcap=softcap,
      dtype=dtype,
    )
    return jnp.sum(y_BTNH * g_BTNH), y_BTNH

  return jax.jit(jax.value_and_grad(weighted, (0, 1, 2), has_aux=True))


def outputs(result) -> list:
  """Returns y_BTNH and the three gradients."""
  (_, y_BTNH), grads = result
  return [np.asarray(x) for x in (y_BTNH, *grads)]


def error(actual, expected) -> float:
  """Returns the largest difference over the largest value; inf for NaN."""
  pairs = zip(actual, expected, strict=True)
  worst = max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in pairs)
  return worst if np.isfinite(worst) else float("inf")


def measured(function, args) -> tuple[list, float]:
  """Returns (outputs of function(*args), milliseconds of a call)."""
  result = jax.block_until_ready(function(*args))
  start = time.perf_counter()
  jax.block_until_ready([function(*args) for _ in range(CALLS)][-1])
  return outputs(result), (time.perf_counter() - start) / CALLS * 1e3


def results(B: int, T: int, N: int, H: int, only=()):
  device = jax.devices()[0]
  yield {"device": device.device_kind, "jax": jax.__version__}
  draw = np.random.default_rng(0)
  cuts_B1 = np.array([[T // 4 + 3 * b, T // 2 + 5 * b] for b in range(B)])
  segments_BT = (np.arange(T)[None, :, None] >= cuts_B1[:, None]).sum(-1) + 1
  segments_BT = jnp.asarray(segments_BT, jnp.int32)
  for title, (mask, K, softcap) in cases(T, N, segments_BT).items():
    if only and title not in only:
      continue
    shapes = [(B, T, N, H), (B, T, K, H), (B, T, K, H), (B, T, N, H)]
    args = [jnp.asarray(draw.standard_normal(s, np.float32)) for s in shapes]
    args.append(mask)
    with jax.default_matmul_precision("highest"):
      exact = outputs(gradients("xla", softcap=softcap, dtype="float32")(*args))
    tolerance = None  # known once the reference is measured
    names = {*backends.names()} - {*backends.CACHED}  # "xla", the reference, first
    for backend in sorted(names, key=lambda name: (name != "xla", name)):
      result = {"case": title, "backend": backend}
      try:
        function = gradients(backend, softcap=softcap, dtype="bfloat16")
        actual, ms = measured(function, args)
      except Mistake as problem:
        lack = str(problem).partition("does not do ")[2] or str(problem)
        yield result | {"lacks": lack.partition(";")[0]}
        continue
      except Exception as problem:  # a compiler's own: the next backend may do
        yield result | {"problem": summary(problem)}
        continue
      distance = error(actual, exact)
      tolerance = tolerance or max(2 * distance, 1e-3)
      ok = distance <= tolerance < 0.1
      yield result | {"error": distance, "tolerance": tolerance, "ms": ms, "ok": ok}


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tiny", action="store_true")
  tiny = parser.parse_args().tiny
  serve(results(**TINY, only=TINY_CASES) if tiny else results(**SIZES))
