"""`jax.nn.dot_product_attention`: cuDNN's flash attention on a GPU."""

import jax
import jax.numpy as jnp

from lm import platform
from lm.nn.attention.masks import Mask


def attend(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype):
  """Returns y_BTNH; see `lm.nn.attention.backends`."""
  T, S = q_BTNH.shape[1], k_BSKH.shape[1]
  options = dict(
    scale=scale, implementation="cudnn" if platform.target() == "gpu" else "xla"
  )
  if mask.indexed:
    # Causality and window as options: the kernel then skips what they rule out.
    options["is_causal"] = mask.causal
    if mask.window:
      ahead = 0 if mask.causal else mask.window - 1
      options["local_window_size"] = (mask.window - 1, ahead)
    mask = mask.replace(causal=False, window=0)
  if mask.segmented or not mask.indexed:
    options["mask"] = mask.dense(T, S)[:, None]
  q, k, v = (x.astype(dtype) for x in (q_BTNH, k_BSKH, v_BSKH))
  return jax.nn.dot_product_attention(q, k, v, **options).astype(jnp.float32)


def lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str:
  """Returns what cuDNN does not do of this call, "" if nothing."""
  if softcap:
    return f"soft-caps (softcap={softcap:g})"
  if platform.target() != "gpu":
    return ""
  # The rest is cuDNN's; see jax/_src/cudnn/fused_attention_stablehlo.py.
  T, H, S = *q_BTNH.shape[1::2], k_BSKH.shape[1]
  mesh = jax.sharding.get_abstract_mesh()
  if jnp.dtype(dtype).itemsize != 2:
    return f"dtype={dtype} on a GPU (bfloat16 it does)"
  if H % 8 or H > 128:
    return f"head size {H} on a GPU (multiples of 8 up to 128 it does)"
  if mask.window and not mask.causal:
    return "a window that looks ahead on a GPU"
  if mask.window and mask.segmented:
    return "a window together with segments on a GPU"
  if not mask.indexed:
    return "explicit positions, padding and caches on a GPU"
  if mask.segmented and (T % 2 or S % 2):
    return f"segments in rows of odd length {T} on a GPU"
  if not mesh.empty and mesh.shape.get("context", 1) > 1:
    return "rows split over the mesh axis context on a GPU"
  return ""
