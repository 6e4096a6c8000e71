"""Attention with the scores in memory: the reference."""

import jax
import jax.numpy as jnp

from lm.nn.attention.masks import MASKED, Mask
from lm.nn.layers import softcap as cap_logits
from lm.nn.linear import dot


def attend(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype, bias=None):
  """Returns y_BTNH as arXiv:1706.03762 has it; `bias` (BNTS, 1NTS) adds to scores."""
  B, T, N, H = q_BTNH.shape
  options = dict(scale=scale, softcap=softcap, dtype=dtype, bias=bias)
  p_BKGTS = _probabilities(q_BTNH, k_BSKH, mask, **options)
  y_BTKGH = dot("BKGTS,BSKH->BTKGH", p_BKGTS, v_BSKH, dtype)
  return y_BTKGH.reshape(B, T, N, H)


def lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str:
  """Returns "": nothing is lacking."""
  return ""


def probabilities(q_BTNH, k_BSKH, mask: Mask, **options):
  """Returns p_BNTS, the probabilities: for pictures of attention."""
  p_BKGTS = _probabilities(q_BTNH, k_BSKH, mask, **options)
  B, K, G, T, S = p_BKGTS.shape
  return p_BKGTS.reshape(B, K * G, T, S)


def _probabilities(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype, bias=None):
  B, T, N, H = q_BTNH.shape
  S, K = k_BSKH.shape[1:3]
  q_BTKGH = (q_BTNH * scale).reshape(B, T, K, N // K, H)
  s_BKGTS = cap_logits(dot("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, dtype), softcap)
  if bias is not None:
    s_BKGTS += bias.reshape(-1, K, N // K, T, S)
  seen = mask.dense(T, S)
  s_BKGTS = jnp.where(seen[:, None, None], s_BKGTS, MASKED)
  return jax.nn.softmax(s_BKGTS, axis=-1)
