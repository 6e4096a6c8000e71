from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec as P

from lm import platform
from lm.letters import make_mesh
from lm.platform import count

DOT = 2 * 8 * 16 * 4
x, w = jnp.zeros((8, 16)), jnp.zeros((16, 4))
square = jnp.zeros((16, 16))
SQUARE = 2 * 8 * 16 * 16


def test_a_matmul_is_two_m_n_k_and_its_gradient_twice_that():
  assert count(jnp.dot, x, w) == DOT
  assert count(lambda a, b: jnp.einsum("MK,KN->MN", a, b), x, w) == DOT
  loss = lambda a, b: jnp.dot(a, b).sum()
  assert count(jax.grad(loss, argnums=(0, 1)), x, w) == 3 * DOT
  assert platform.model_flops(loss, x, w) == 3 * DOT


def test_batched_and_grouped_heads():
  q, k = jnp.zeros((2, 8, 3, 5, 4)), jnp.zeros((2, 6, 3, 4))
  scores = lambda q, k: jnp.einsum("BTKGH,BSKH->BKGTS", q, k)
  assert count(scores, q, k) == 2 * 2 * 8 * 3 * 5 * 4 * 6


def test_shapes_will_do():
  like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
  assert count(jnp.dot, like(x), like(w)) == DOT


def test_elementwise_work_is_left_out():
  assert count(lambda x: jax.nn.softmax(jnp.tanh(x) * 2), x) == 0


def test_calls_are_looked_into():
  @jax.custom_vjp
  def dot(x, w):
    return x @ w

  dot.defvjp(lambda x, w: (x @ w, (x, w)), lambda s, g: (g @ s[1].T, s[0].T @ g))
  assert count(jax.jit(jax.jit(dot)), x, w) == DOT
  assert count(jax.grad(lambda x: dot(x, w).sum()), x) == 3 * DOT
  assert count(jax.vmap(jnp.dot, (0, None)), jnp.zeros((7, 8, 16)), w) == 7 * DOT

  @jax.custom_jvp
  def tangent(x):
    return x @ w

  tangent.defjvps(lambda dx, y, x: dx @ w)
  assert count(tangent, x) == DOT


def test_loops_multiply():
  step = lambda x, _: (x @ square, None)
  scan = lambda x: jax.lax.scan(step, x, length=5)[0]
  assert count(scan, x) == 5 * SQUARE
  assert count(jax.grad(lambda x: scan(x).sum()), x) == 10 * SQUARE
  assert count(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: x @ square, x), x) == (
    3 * SQUARE
  )
  nested = lambda x: jax.lax.scan(lambda x, _: (scan(x), None), x, length=2)[0]
  assert count(nested, x) == 10 * SQUARE


def test_a_while_with_matmuls_needs_its_length():
  loop = lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ square, x)
  with pytest.raises(ValueError, match="no known length; pass while_trips"):
    count(loop, x)
  assert count(loop, x, while_trips=7) == 7 * SQUARE
  idle = lambda n: jax.lax.while_loop(lambda n: n < 9, lambda n: n + 1, n)
  assert count(idle, 0) == 0


def test_a_cond_is_its_dearest_branch():
  branches = [lambda x: x, lambda x: x @ square, lambda x: x @ square @ square]
  assert count(lambda i, x: jax.lax.switch(i, branches, x), 0, x) == 2 * SQUARE


def test_recomputation_counts_when_executed_and_not_for_the_model():
  two = lambda x: jnp.sin(jnp.sin(x @ square) @ square).sum()
  plain, recomputed = jax.grad(two), jax.grad(jax.checkpoint(two))
  assert count(plain, x) == 4 * SQUARE
  assert count(recomputed, x) == 6 * SQUARE
  assert platform.model_flops(two, x) == platform.model_flops(jax.checkpoint(two), x)


def test_shards_add_up():
  mesh = make_mesh(data=4, tensor=2)
  rows, over_both = P("data", None), P("data", "tensor")
  with jax.set_mesh(mesh):
    split = jax.shard_map(
      jnp.dot, in_specs=(rows, P(None, "tensor")), out_specs=over_both
    )
    assert count(split, x, w) == DOT
    # A device axis that nothing is split over duplicates the work.
    replicated = jax.shard_map(jnp.dot, in_specs=(rows, P()), out_specs=rows)
    assert count(replicated, x, w) == 2 * DOT


def test_convolutions():
  image, kernel = (
    jnp.zeros((2, 10, 6)),
    jnp.zeros((3, 6, 8)),
  )  # [B, T, in], [3, in, out]
  numbers = ("NTC", "TIO", "NTC")
  conv = lambda a, b, groups=1: jax.lax.conv_general_dilated(
    a, b, (1,), "SAME", dimension_numbers=numbers, feature_group_count=groups
  )
  assert count(conv, image, kernel) == 2 * (2 * 10 * 8) * (3 * 6)
  depthwise = jnp.zeros((3, 1, 6))
  assert count(lambda a, b: conv(a, b, 6), image, depthwise) == 2 * (2 * 10 * 6) * 3


def test_ragged_dots_and_their_gradients():
  rows, experts = jnp.zeros((6, 8)), jnp.zeros((3, 8, 5))
  sizes = jnp.array([1, 2, 3])
  loss = lambda a, b: jax.lax.ragged_dot(a, b, sizes).sum()
  assert count(loss, rows, experts) == 2 * 6 * 8 * 5
  assert count(jax.grad(loss, (0, 1)), rows, experts) == 3 * 2 * 6 * 8 * 5


def test_pallas_kernels_run_once_for_each_place_of_the_grid():
  def kernel(x_ref, w_ref, out_ref):
    out_ref[...] = jnp.dot(x_ref[...], w_ref[...])

  call = pl.pallas_call(
    kernel,
    grid=(4,),
    in_specs=[pl.BlockSpec((2, 16), lambda i: (i, 0)), pl.BlockSpec((16, 4))],
    out_specs=pl.BlockSpec((2, 4), lambda i: (i, 0)),
    out_shape=jax.ShapeDtypeStruct((8, 4), jnp.float32),
    interpret=True,
  )
  assert count(call, x, w) == DOT


def test_cudnn_attention_counts_like_the_plain_one():
  q, k = jnp.zeros((2, 128, 4, 64), "bfloat16"), jnp.zeros((2, 256, 2, 64), "bfloat16")

  def loss(implementation):
    attend = jax.nn.dot_product_attention
    return lambda q, k, v: attend(q, k, v, implementation=implementation).sum()

  cudnn = "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version"
  with mock.patch(cudnn, lambda: 91000):
    forward = count(loss("cudnn"), q, k, k)
    both = count(jax.value_and_grad(loss("cudnn"), (0, 1, 2)), q, k, k)
  assert forward == count(loss("xla"), q, k, k)
  assert both == 3.5 * forward  # of five matmuls backward, one is recomputed


def test_what_cannot_be_seen_is_an_error():
  call = jax.ffi.ffi_call("a_gemm_of_ours", jax.ShapeDtypeStruct((8, 4), jnp.float32))
  with pytest.raises(ValueError, match="cannot see the FLOPs in ffi_call"):
    count(call, x)


def test_a_transformer_is_six_n_d_and_its_attention():
  B, T, D, N, H, F, V, L = 2, 16, 32, 4, 8, 128, 64, 3
  sizes = dict(qkv=(L, 3, D, N, H), o=(L, N, H, D), up=(L, D, F), down=(L, F, D))
  params = {k: jnp.zeros(s) for k, s in sizes.items()} | {"out": jnp.zeros((D, V))}

  def block(x, p):
    q, k, v = jnp.einsum("BTD,ADNH->ABTNH", x, p["qkv"])
    probs = jax.nn.softmax(jnp.einsum("BTNH,BSNH->BNTS", q, k))
    x += jnp.einsum("BTNH,NHD->BTD", jnp.einsum("BNTS,BSNH->BTNH", probs, v), p["o"])
    return x + jax.nn.gelu(x @ p["up"]) @ p["down"], None

  def loss(params, x):
    layers = {k: params[k] for k in sizes}
    x, _ = jax.lax.scan(jax.checkpoint(block), x, layers)
    return jax.nn.logsumexp(x @ params["out"]).sum()

  num_params = sum(p.size for p in jax.tree.leaves(params))
  x = jnp.zeros((B, T, D))
  expected = 6 * num_params * B * T + 12 * L * B * T * T * N * H
  assert platform.model_flops(loss, params, x) == expected
  executed = count(jax.value_and_grad(loss, (0, 1)), params, x)
  assert expected < executed <= expected * 4 / 3  # remat: at most one more forward pass


class Chip:
  def __init__(self, kind):
    self.device_kind, self.platform = kind, "gpu" if "NVIDIA" in kind else "tpu"


@pytest.mark.parametrize(
  "kind, bfloat16, float32",
  [
    ("TPU v4", 275, 275),
    ("TPU v5 lite", 197, 197),
    ("TPU v5p", 459, 459),
    ("TPU v5", 459, 459),
    ("TPU v6 lite", 918, 918),
    ("NVIDIA A100-SXM4-80GB", 312, 156),
    ("NVIDIA H100 80GB HBM3", 989, 494.5),
    ("NVIDIA H100 PCIe", 756, 378),
    ("NVIDIA H200", 989, 494.5),
    ("NVIDIA B200", 2250, 1125),
  ],
)
def test_peaks_of_chips(kind, bfloat16, float32):
  assert platform.peak_flops(Chip(kind), "bfloat16") == bfloat16 * 1e12
  assert platform.peak_flops(Chip(kind), jnp.float32) == float32 * 1e12


def test_a_cpu_is_measured_once_and_shared_by_its_devices():
  devices = jax.local_devices(backend="cpu")
  peak = platform.peak_flops(devices[0], "float32")
  assert [platform.peak_flops(d, np.float32) for d in devices] == [peak] * len(devices)
  assert 1e8 < peak * len(devices) < 1e15


def test_mfu():
  assert platform.mfu(3e12, 2.0, 6e12) == 0.25
