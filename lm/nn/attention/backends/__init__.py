"""Ways to compute attention; every one honours the whole mask or refuses loudly.

All share the signature of `xla`, the reference: q_BTNH, k_BSKH, v_BSKH and a Mask give
y_BTNH in float32. A new one is a function, what it lacks, and a line in BACKENDS.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from lm.errors import Mistake
from lm.letters import spec
from lm.nn.attention.backends import chunked
from lm.nn.attention.masks import MASKED, Mask
from lm.nn.layers import softcap as cap_logits
from lm.nn.linear import dot
from lm.platform import target

LANES = 128  # of a TPU: splash works on blocks of this many positions, or a multiple


def attend(
  backend, q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype, bias=None
):
  """y_BTNH in float32. "auto" is this platform's fast backend when it can do this call.

  `bias` (BNTS or 1NTS) is added to the scores; only "xla" does that. Raises Mistake
  when `backend` cannot do this call.
  """
  options = dict(scale=scale, softcap=softcap, dtype=dtype)
  if bias is not None:
    if backend not in ("auto", "xla"):
      raise Mistake(f"attention backend {backend!r} does not do biases; 'xla' does")
    return xla(q_BTNH, k_BSKH, v_BSKH, mask, **options, bias=bias)
  if backend == "auto":
    backend = FASTEST.get(target(), "xla")
    if BACKENDS[backend][1](q_BTNH, k_BSKH, mask, **options):
      backend = "xla"
  compute, lacks = BACKENDS[backend]
  if lack := lacks(q_BTNH, k_BSKH, mask, **options):
    raise Mistake(
      f"attention backend {backend!r} does not do {lack}; 'xla' does, and 'auto' takes "
      f"'xla' where {backend!r} will not do"
    )
  return compute(q_BTNH, k_BSKH, v_BSKH, mask, **options)


def xla(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype, bias=None):
  """Attention as the papers write it (arXiv:1706.03762), with the scores in memory."""
  B, T, N, H = q_BTNH.shape
  options = dict(scale=scale, softcap=softcap, dtype=dtype, bias=bias)
  p_BKGTS = _probabilities(q_BTNH, k_BSKH, mask, **options)
  y_BTKGH = dot("BKGTS,BSKH->BTKGH", p_BKGTS, v_BSKH, dtype)
  return y_BTKGH.reshape(B, T, N, H)


def probabilities(q_BTNH, k_BSKH, mask: Mask, **options):
  """p_BNTS, how much each query attends to each key: for pictures."""
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


def _xla_lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str:
  return ""


def fused(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype):
  """`jax.nn.dot_product_attention`: cuDNN's flash attention on a GPU."""
  T, S = q_BTNH.shape[1], k_BSKH.shape[1]
  options = dict(scale=scale, implementation="cudnn" if target() == "gpu" else "xla")
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


def _fused_lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str:
  if softcap:
    return f"soft-caps (softcap={softcap:g})"
  if target() != "gpu":
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


def splash(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype):
  """Flash attention that skips the blocks a mask empties: Pallas, for TPUs.

  On a CPU it is interpreted, which is for tests. On a mesh every device computes its
  own rows, heads and query positions, against all keys.
  """
  mesh = jax.sharding.get_abstract_mesh()
  N, T = q_BTNH.shape[2], q_BTNH.shape[1]
  shards = (1, 1) if mesh.empty else (mesh.shape["tensor"], mesh.shape["context"])
  kernel = _splash_kernel(N, T, mask, softcap, shards)
  heads_first = lambda x: jnp.swapaxes(x, 1, 2).astype(dtype)
  args = [kernel, heads_first(q_BTNH * scale), heads_first(k_BSKH), heads_first(v_BSKH)]
  letters = ["BNTH", "BKSH", "BKSH"]
  if mask.segmented:
    args += [mask.q_segments_BT, mask.k_segments_BS]
    letters += ["BT", "BS"]

  def compute(kernel, q_BNTH, k_BKSH, v_BKSH, *segments):
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    segments = SegmentIds(*segments) if segments else None
    return jax.vmap(kernel)(q_BNTH, k_BKSH, v_BKSH, segments)

  if not mesh.empty and mesh.size > 1:
    split = kernel.manual_sharding_spec(NamedSharding(mesh, spec("NT")))
    compute = jax.shard_map(
      compute,
      in_specs=(split, *map(spec, letters)),
      out_specs=spec("BNTH"),
      check_vma=False,  # pallas_call does not say how its results vary
    )
  y_BNTH = compute(*args)
  return jnp.swapaxes(y_BNTH, 1, 2).astype(jnp.float32)


def _splash_kernel(N: int, T: int, mask: Mask, softcap: float, shards):
  # Imported here: Pallas takes a second that only its users should wait.
  from jax.experimental.pallas.ops.tpu import splash_attention as lib

  if mask.window:
    ahead = 0 if mask.causal else mask.window - 1
    one = lib.LocalMask((T, T), (mask.window - 1, ahead), 0, shards[1])
  else:
    one = lib.CausalMask((T, T), 0, shards[1]) if mask.causal else lib.FullMask((T, T))
  block = math.gcd(T // shards[1], 512)  # MaxText's default where it divides
  names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute")
  blocks = {f"block_{name}": block for name in (*names, "q_dq", "kv_dq")}
  return lib.make_splash_mha(
    lib.MultiHeadMask([one] * N),
    block_sizes=lib.BlockSizes(**blocks),
    attn_logits_soft_cap=softcap or None,
    head_shards=shards[0],
    q_seq_shards=shards[1],
    interpret=target() == "cpu",
  )


def _splash_lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str:
  (B, T, _, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
  mesh = jax.sharding.get_abstract_mesh()
  size = lambda *axes: 1 if mesh.empty else math.prod(mesh.shape[a] for a in axes)
  if target() == "gpu":
    return "GPUs ('fused' does)"
  if not mask.indexed or T != S:
    return "explicit positions, padding and caches"
  if H % 64 and target() == "tpu":
    return f"head size {H} (multiples of 64 it does)"
  step = math.lcm(LANES * size("context"), size("context") ** 2)  # the second is lib's
  if T % step:
    return f"rows of {T} tokens (multiples of {step} it does)"
  for name, n, axes in (("B", B, ("data", "fsdp")), ("K", K, ("tensor",))):
    if n % size(*axes):
      return f"{name}={n} over {size(*axes)} devices of mesh {'*'.join(axes)}"
  return ""


BACKENDS = {
  "xla": (xla, _xla_lacks),
  "chunked": (chunked.attend, chunked.lacks),
  "fused": (fused, _fused_lacks),
  "splash": (splash, _splash_lacks),
}
FASTEST = {"tpu": "splash", "gpu": "fused", "cpu": "chunked"}
