"""Ways to compute attention; every one honours the whole mask or refuses loudly.

All share the signature of `xla`, the reference: q_BTNH, k_BSKH, v_BSKH and a Mask give
y_BTNH in float32.
"""

import jax
import jax.numpy as jnp

from lm.nn.layers import softcap as cap_logits
from lm.nn.linear import dot
from lm.nn.masks import Mask

MASKED = -1e30  # finite: a row of nothing but padding stays free of NaN


def xla(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype):
  """Attention as the papers write it (arXiv:1706.03762), with the scores in memory."""
  B, T, N, H = q_BTNH.shape
  p_BKGTS = _probabilities(q_BTNH, k_BSKH, mask, scale, softcap, dtype)
  y_BTKGH = dot("BKGTS,BSKH->BTKGH", p_BKGTS, v_BSKH, dtype)
  return y_BTKGH.reshape(B, T, N, H)


def probabilities(q_BTNH, k_BSKH, mask: Mask, *, scale, softcap, dtype):
  """p_BNTS, how much each query attends to each key: for pictures."""
  p_BKGTS = _probabilities(q_BTNH, k_BSKH, mask, scale, softcap, dtype)
  B, K, G, T, S = p_BKGTS.shape
  return p_BKGTS.reshape(B, K * G, T, S)


def _probabilities(q_BTNH, k_BSKH, mask, scale, softcap, dtype):
  B, T, N, H = q_BTNH.shape
  S, K = k_BSKH.shape[1:3]
  q_BTKGH = (q_BTNH * scale).reshape(B, T, K, N // K, H)
  s_BKGTS = cap_logits(dot("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, dtype), softcap)
  mask_BTS = mask.dense(T, S)
  s_BKGTS = jnp.where(mask_BTS[:, None, None], s_BKGTS, MASKED)
  return jax.nn.softmax(s_BKGTS, axis=-1)


def choose(backend: str) -> str:
  """The backend meant by a config's value: "auto" is the best for this platform."""
  return "xla" if backend == "auto" else backend
