"""Flash attention that skips the blocks that a mask empties: Pallas, for TPUs."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from lm import platform
from lm.letters import spec
from lm.nn.attention.masks import Mask

LANES = (
  128  # of a TPU: the kernel works on blocks of this many positions, or a multiple
)


def attend(q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype):
  """Returns y_BTNH; see `lm.nn.attention.backends`.

  On a CPU the kernel is interpreted, for tests. On a mesh every device computes its own
  rows, heads and query positions, against all keys.
  """
  mesh = jax.sharding.get_abstract_mesh()
  N, T = q_BTNH.shape[2], q_BTNH.shape[1]
  shards = (1, 1) if mesh.empty else (mesh.shape["tensor"], mesh.shape["context"])
  kernel = _kernel(N, T, mask, softcap, shards)
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


def lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str:
  """Returns what the kernel does not do of this call, "" if nothing."""
  (B, T, _, H), (S, K) = q_BTNH.shape, k_BSKH.shape[1:3]
  mesh = jax.sharding.get_abstract_mesh()
  size = lambda *axes: 1 if mesh.empty else math.prod(mesh.shape[a] for a in axes)
  if platform.target() == "gpu":
    return "GPUs ('fused' does)"
  if not mask.indexed or T != S:
    return "explicit positions, padding and caches"
  if H % 64 and platform.target() == "tpu":
    return f"head size {H} (multiples of 64 it does)"
  step = math.lcm(LANES * size("context"), size("context") ** 2)  # the second is lib's
  if T % step:
    return f"rows of {T} tokens (multiples of {step} it does)"
  for name, n, axes in (("B", B, ("data", "fsdp")), ("K", K, ("tensor",))):
    if n % size(*axes):
      return f"{name}={n} over {size(*axes)} devices of mesh {'*'.join(axes)}"
  return ""


def _kernel(N: int, T: int, mask: Mask, softcap: float, shards):
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
    interpret=platform.target() == "cpu",
  )
