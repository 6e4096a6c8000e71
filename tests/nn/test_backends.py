"""Attention backends: each equals the reference, value and gradient, or refuses."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import platform as lm_platform
from lm.letters import make_mesh, sharding
from lm.nn.attention import backends
from lm.nn.attention.masks import Mask

B, H, SCALE = 4, 16, 0.3
FULL, PACKED = Mask(), "packed"  # PACKED is replaced by segments of the right length


def tensors(T, S, N, K, seed=0):
  """Returns q_BTNH, k_BSKH, v_BSKH and weights g_BTNH of the output."""
  draw = np.random.default_rng(seed)
  shapes = [(B, T, N, H), (B, S, K, H), (B, S, K, H), (B, T, N, H)]
  return [draw.standard_normal(shape, np.float32) for shape in shapes]


def segments(T):
  """Returns segments_BT of three documents and padding, cut elsewhere in every row."""
  cuts = np.array([[T // 4 + b, T // 2 + 3 * b, T - 5 * b] for b in range(B)])
  number_BT = (np.arange(T)[None, :, None] >= cuts[:, None]).sum(-1) + 1
  return np.where(number_BT == 4, 0, number_BT).astype(np.int32)


def packed(T, **options):
  return Mask(None, None, segments(T), segments(T), **options)


def run(backend, mask, args, *, softcap=0.0, dtype="float32"):
  """Returns (y_BTNH, gradients of its weighted sum to q, k and v)."""

  def weighted(q_BTNH, k_BSKH, v_BSKH, g_BTNH, mask):
    options = dict(scale=SCALE, softcap=softcap, dtype=dtype)
    y_BTNH = backends.attend(backend, q_BTNH, k_BSKH, v_BSKH, mask, **options)
    assert y_BTNH.dtype == jnp.float32
    return jnp.sum(y_BTNH * g_BTNH), y_BTNH

  (_, y_BTNH), grads = jax.jit(jax.value_and_grad(weighted, (0, 1, 2), has_aux=True))(
    *args, mask
  )
  return y_BTNH, grads


def assert_same(backend, mask, args, tolerance=5e-5, **options):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
    run(backend, mask, args, **options),
    run("xla", mask, args, **options),
  )


@pytest.mark.parametrize("N, K", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize(
  "mask",
  [
    Mask(),
    Mask(window=5),
    Mask(causal=False),
    Mask(causal=False, window=5),
    packed(16),
    packed(16, window=3),
    packed(16, causal=False),
  ],
  ids=lambda m: f"{'causal' * m.causal}-{m.window}-{'segments' * m.segmented}",
)
def test_fused_equals_the_reference(mask, N, K):
  assert_same("fused", mask, tensors(16, 16, N, K))


def test_fused_honours_positions_padding_and_caches():
  positions_BT = np.array([[3, 4], [0, 1], [5, -1], [7, 8]], np.int32)
  slots_BS = np.array(
    [
      [0, 1, 2, -1, 3, 4, -1],
      [0, 1, -1, -1, -1, -1, -1],
      [0, 1, 2, 3, 4, 5, -1],
      [2, 3, 4, 5, 6, 7, 8],
    ],
    np.int32,
  )
  for window in (0, 3):
    assert_same(
      "fused", Mask(positions_BT, slots_BS, window=window), tensors(2, 7, 4, 2)
    )


@pytest.mark.parametrize(
  "mask, heads, softcap",
  [
    (Mask(), (4, 2), 0.0),
    (packed(256), (2, 2), 0.0),
    (packed(256, window=30), (2, 1), 2.0),
    (Mask(causal=False), (2, 2), 2.0),
    (Mask(causal=False, window=100), (4, 1), 0.0),
  ],
  ids=["causal", "segments", "all at once", "bidirectional", "symmetric window"],
)
def test_splash_equals_the_reference(mask, heads, softcap):
  assert_same("splash", mask, tensors(256, 256, *heads), softcap=softcap)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (2, 1)])
@pytest.mark.parametrize("T", [128, 256])
@pytest.mark.parametrize("window", [0, 30])
@pytest.mark.parametrize("in_segments", [False, True])
def test_chunked_equals_the_reference(heads, T, window, in_segments):
  mask = packed(T, window=window) if in_segments else Mask(window=window)
  assert_same("chunked", mask, tensors(T, T, *heads))


@pytest.mark.parametrize("sizes", [dict(fsdp=4, tensor=2), dict(tensor=2, context=4)])
@pytest.mark.parametrize("backend", ["fused", "splash"])
def test_sharded_equals_the_reference(backend, sizes):
  """Compares with one device, for documents cut elsewhere in every row."""
  args, mask = tensors(512, 512, 4, 2), packed(512, window=200)
  expected = run("xla", mask, args)
  mesh = make_mesh(**sizes)
  with jax.set_mesh(mesh):
    letters = ("BTNH", "BSKH", "BSKH", "BTNH")
    placed = [
      jax.device_put(x, sharding(mesh, d)) for x, d in zip(args, letters, strict=True)
    ]
    actual = run(backend, mask, placed)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=5e-5), actual, expected
  )


@pytest.mark.parametrize(
  "backend, T", [("fused", 16), ("splash", 128), ("chunked", 128)]
)
def test_bfloat16_stays_as_close_as_the_reference(backend, T):
  args, exact = tensors(T, T, 4, 2), run("xla", Mask(), tensors(T, T, 4, 2))
  error = lambda name: max(
    float(jnp.abs(x - y).max() / jnp.abs(y).max())
    for x, y in zip(
      jax.tree.leaves(run(name, Mask(), args, dtype="bfloat16")),
      jax.tree.leaves(exact),
      strict=True,
    )
  )
  assert error(backend) < 2 * error("xla") < 0.05


# Refusals and fallbacks


def refusal(backend, mask, *, T=128, S=None, N=4, K=2, softcap=0.0, dtype="float32"):
  """Returns the error of `attend`, which is raised before anything is computed."""
  q, k, v, _ = tensors(T, S or T, N, K)
  with pytest.raises(ValueError) as caught:
    backends.attend(backend, q, k, v, mask, scale=1, softcap=softcap, dtype=dtype)
  assert "\n" not in str(caught.value)
  return str(caught.value)


AT = Mask(np.zeros((B, 128), np.int32), np.zeros((B, 128), np.int32))


@pytest.mark.parametrize(
  "platform, backend, mask, options, message",
  [
    ("cpu", "fused", FULL, dict(softcap=5.0), r"soft-caps \(softcap=5\)"),
    ("cpu", "chunked", FULL, dict(softcap=5.0), "soft-caps"),
    ("cpu", "chunked", FULL, dict(T=100), "rows of 100 tokens .multiples of 128"),
    ("cpu", "chunked", Mask(causal=False), {}, "look ahead"),
    ("cpu", "chunked", AT, {}, "explicit positions, padding and caches"),
    ("cpu", "splash", AT, {}, "explicit positions, padding and caches"),
    ("cpu", "splash", FULL, dict(T=1), "explicit positions, padding and caches"),
    ("cpu", "splash", FULL, dict(T=100), "rows of 100 tokens .multiples of 128"),
    ("tpu", "splash", FULL, {}, "head size 16 .multiples of 64"),
    ("gpu", "splash", FULL, {}, "GPUs"),
    ("gpu", "fused", FULL, {}, "dtype=float32 on a GPU"),
    ("gpu", "fused", AT, dict(dtype="bfloat16"), "explicit positions"),
    ("gpu", "fused", packed(128, window=3), dict(dtype="bfloat16"), "together with"),
    ("gpu", "fused", packed(127), dict(dtype="bfloat16", T=127), "odd length 127"),
    (
      "gpu",
      "fused",
      Mask(causal=False, window=3),
      dict(dtype="bfloat16"),
      "looks ahead",
    ),
  ],
)
def test_what_a_backend_cannot_do_it_refuses(
  platform, backend, mask, options, message, monkeypatch
):
  monkeypatch.setattr("lm.platform.target", lambda: platform)
  options = options | (dict(S=128) if options.get("T") == 1 else {})
  error_line = refusal(backend, mask, **options)
  assert re.search(message, error_line)
  assert error_line.startswith(f"attention backend '{backend}' does not do ")
  assert "'xla' does, and 'auto' takes 'xla'" in error_line


def test_splash_refuses_what_a_mesh_cannot_split():
  with jax.set_mesh(make_mesh(data=8)):
    assert "B=4 over 8 devices of mesh data*fsdp" in refusal("splash", FULL)
  with jax.set_mesh(make_mesh(fsdp=2, tensor=4)):
    assert "K=2 over 4 devices of mesh tensor" in refusal("splash", FULL)
  with jax.set_mesh(make_mesh(context=2, fsdp=4)):
    assert "rows of 128 tokens (multiples of 256" in refusal("splash", FULL)


@pytest.mark.parametrize(
  "platform, mask, options, expected",
  [
    ("cpu", FULL, {}, "chunked"),
    ("cpu", FULL, dict(softcap=2.0), "xla"),
    ("cpu", AT, {}, "xla"),
    ("tpu", FULL, dict(H=128), "splash"),
    ("tpu", packed(128, window=9), dict(H=64, softcap=2.0), "splash"),
    ("tpu", FULL, dict(H=16), "xla"),
    ("tpu", AT, dict(H=128), "xla"),
    ("gpu", packed(128), dict(H=64, dtype="bfloat16"), "fused"),
    ("gpu", FULL, dict(H=64), "xla"),
    ("gpu", FULL, dict(H=64, dtype="bfloat16", softcap=2.0), "xla"),
  ],
)
def test_auto_takes_what_is_fast_where_it_will_do(
  platform, mask, options, expected, monkeypatch
):
  monkeypatch.setattr("lm.platform.target", lambda: platform)
  used = []
  for name in backends.names():
    note = lambda *args, name=name, **options: used.append(name)
    monkeypatch.setattr(f"lm.nn.attention.backends.{name}.attend", note)
  options = dict(softcap=0.0, dtype="float32") | options
  x = np.zeros((B, 128, 2, options.pop("H", 16)), np.float32)
  backends.attend("auto", x, x, x, mask, scale=1, **options)
  assert used == [expected]


def test_the_platform_is_that_of_the_mesh():
  assert lm_platform.target() == "cpu"
  mesh = make_mesh(data=8).abstract_mesh
  away = dataclasses.replace(mesh.abstract_device, platform="tpu")
  with jax.sharding.use_abstract_mesh(mesh.update(abstract_device=away)):
    assert lm_platform.target() == "tpu"


# In a model


@pytest.mark.parametrize("backend", ["fused", "splash"])
def test_a_model_gives_the_same_whichever_it_uses(backend):
  family, tokens_BT = FAMILIES["llama"], np.tile(tokens(2, 32), (1, 4))
  segments_BT = segments(128)[:2]

  def logits(backend):
    model = family.model(backend=backend, window=20)
    run = lambda p: model.apply({"params": p}, tokens_BT, segments_BT=segments_BT)[0]
    return jax.jit(run)(family.params())

  np.testing.assert_allclose(logits(backend), logits("xla"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head_size", [64, 128])
def test_splash_lowers_for_a_tpu(head_size, monkeypatch):
  """Lowers as far as libtpu is not needed: Mosaic accepts all three kernels."""
  monkeypatch.setattr("lm.platform.target", lambda: "tpu")

  def total(q_BTNH, k_BSKH, v_BSKH):
    options = dict(scale=SCALE, softcap=5.0, dtype="bfloat16")
    mask = packed(1024, window=300)
    return jnp.sum(backends.attend("auto", q_BTNH, k_BSKH, v_BSKH, mask, **options))

  shape = lambda n: jax.ShapeDtypeStruct((B, 1024, n, head_size), jnp.float32)
  exported = jax.export.export(jax.jit(jax.grad(total, (0, 1, 2))), platforms=["tpu"])(
    shape(4), shape(2), shape(2)
  )
  assert exported.mlir_module().count("tpu_custom_call") == 3
