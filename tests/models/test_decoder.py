"""Decoder: published sizes, the meaning of its fields, refused configs."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import models, trees
from lm.letters import abstract, spec, unbox
from lm.models import gemma
from lm.models.decoder import PRESETS, Config, Feed

GPT2, LLAMA_2, LLAMA_3, PYTHIA, SMOLLM = 50_257, 32_000, 128_256, 50_304, 49_152
QWEN, OLMO, GEMMA_2, GEMMA_3 = 151_936, 100_352, 256_000, 262_144

# The vocabulary, and the parameters as published (for the tiny ones, which are our own,
# as added up by hand), without the padding of the vocabulary.
PUBLISHED = {
  "gpt2-tiny": (2_048, 1_088_256),
  "gpt2-124m": (GPT2, 124_439_808),
  "gpt2-355m": (GPT2, 354_823_168),
  "gpt2-774m": (GPT2, 774_030_080),
  "gpt2-1.5b": (GPT2, 1_557_611_200),
  "llama-tiny": (2_048, 2_164_416),
  "llama-160m": (LLAMA_2, 162_417_408),
  "llama-1b": (LLAMA_3, 1_235_814_400),
  "llama-8b": (LLAMA_3, 8_030_261_248),
  "llama-70b": (LLAMA_3, 70_553_706_496),
  "mixtral-tiny": (2_048, 5_709_504),
  "mixtral-8x7b": (LLAMA_2, 46_702_792_704),
  "mistral-7b": (LLAMA_2, 7_241_732_096),
  "qwen2-0.5b": (QWEN, 494_032_768),
  "qwen2-7b": (152_064, 7_615_616_512),
  "qwen3-0.6b": (QWEN, 596_049_920),
  "qwen3-8b": (QWEN, 8_190_735_360),
  "pythia-70m": (PYTHIA, 70_426_624),
  "pythia-160m": (PYTHIA, 162_322_944),
  "pythia-410m": (PYTHIA, 405_334_016),
  "pythia-1.4b": (PYTHIA, 1_414_647_808),
  "olmo2-1b": (OLMO, 1_484_916_736),
  "olmo2-7b": (OLMO, 7_298_617_344),
  "smollm2-135m": (SMOLLM, 134_515_008),
  "smollm2-360m": (SMOLLM, 361_821_120),
  "smollm2-1.7b": (SMOLLM, 1_711_376_384),
  "gemma-tiny": (2_048, 2_019_264),
  "gemma2-2b": (GEMMA_2, 2_614_341_888),
  "gemma2-9b": (GEMMA_2, 9_241_705_984),
  "gemma3-270m": (GEMMA_3, 268_098_176),
  "gemma3-1b": (GEMMA_3, 999_885_952),
  "gemma3-4b": (262_208, 3_880_263_168),
}


def count(shapes) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("preset", [*PRESETS, *gemma.PRESETS])
def test_presets_have_their_published_size(preset):
  vocab, published = PUBLISHED[preset]
  family = "gemma" if preset in gemma.PRESETS else "decoder"
  model = models.build(family, preset=preset, vocab=vocab)
  tables = 1 if getattr(model.config, "tied", True) else 2
  padding = tables * (-vocab % 128) * model.config.width
  shapes, _ = abstract(model, tokens(1, 2))
  assert count(shapes) - padding == published


@pytest.mark.parametrize("preset", ["gpt2-124m", "llama-8b"])
def test_manifest(preset, golden):
  """Checks every parameter's path, dimensions, shape and sharding."""
  model = models.build("decoder", preset=preset, vocab=PUBLISHED[preset][0])
  shapes, letters = abstract(model, tokens(1, 2))
  lines = [
    f"{trees.path_name(path):34} {name:5} {'x'.join(map(str, leaf.shape)):16}"
    f" {leaf.dtype} {tuple(spec(name))}"
    for (path, leaf), name in zip(
      jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(letters), strict=True
    )
  ]
  golden(f"{preset}-parameters", "\n".join(lines))


@pytest.mark.parametrize(
  "vocab, rows", [(1, 128), (127, 128), (128, 128), (129, 256), (50_257, 50_304)]
)
def test_vocabularies_are_padded_and_cut_again(vocab, rows):
  model = models.build("decoder", vocab=vocab, width=8, heads=2, layers=1, tied=False)
  shapes, _ = abstract(model, tokens(1, 2))
  assert shapes["embed"]["table"].shape == (rows, 8)
  assert shapes["head"]["table"].shape == (8, rows)
  logits, _ = jax.eval_shape(model.apply, {"params": shapes}, tokens(1, 2))
  assert logits.shape == (1, 2, vocab) and logits.dtype == np.float32


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(width=100, heads=12), "heads=12 does not divide width=100; nearest.*10.*20"),
    (dict(heads=4, kv_heads=3), "kv_heads=3 does not divide heads=4"),
    (dict(width=12, heads=4), "rotary positions need an even head size, got 3"),
    (dict(heads=4, head_size=5), "rotary positions need an even head size, got 5"),
    (dict(rotary_share=0.375), r"even head size, got 3 \(share 0.375 of 8\)"),
    (dict(rotary_share=1.5), "rotary_share=1.5; wanted more than 0, up to 1"),
    (dict(factor=2.0), "factor=2 without a scaling; choose one of linear, ntk"),
    (dict(scaling="dynamic"), "no scaling 'dynamic'.*linear, ntk, yarn, llama3"),
    (dict(scaling="yarn", factor=2.0), "scaling='yarn' needs original_context"),
    (dict(qk_norm="all"), "no qk_norm 'all'.*none, head, width"),
    (dict(order="sandwich"), "no order 'sandwich'.*before, after, parallel"),
    (dict(activation="swish"), "no activation 'swish'.*swiglu"),
    (dict(norm="batch"), "no norm 'batch'.*layer, rms"),
    (dict(positions="alibi"), "no positions 'alibi'.*learned, rotary"),
    (dict(remat="some"), "no remat 'some'.*none"),
    (dict(dtype="float8"), "no dtype 'float8'.*bfloat16"),
    (
      dict(backend="flash"),
      "no attention backend 'flash'; found: auto, blocks, chunked, fused",
    ),
  ],
)
def test_a_config_that_makes_no_sense_is_one_clear_line(fields, message):
  fields = dict(width=32, heads=4) | fields
  with pytest.raises(ValueError, match=message) as caught:
    models.build("decoder", vocab=11, **fields)
  assert "\n" not in str(caught.value)


def test_odd_head_sizes_are_for_learned_positions():
  models.build("decoder", vocab=11, width=12, heads=4, positions="learned")


def test_feed_forward_sizes():
  size = lambda **fields: Config(vocab=11, width=96, feed=Feed(**fields)).F
  assert size(activation="gelu") == 384
  assert size(activation="swiglu") == size(activation="geglu") == 256
  assert size(ff=100) == size(ff=100, activation="gelu") == 100


def test_segments_and_a_cache_exclude_each_other():
  family, tokens_BT = FAMILIES["llama"], tokens(2, 4)
  model = family.model()
  with pytest.raises(ValueError, match="segments_BT with a cache"):
    model.apply(
      {"params": family.params()},
      tokens_BT,
      segments_BT=np.ones_like(tokens_BT),
      cache=model.init_cache(2, 8),
    )


# Intermediates, gradients and initial values


@pytest.mark.parametrize("scan", [True, False])
def test_attention_probabilities_are_recorded(scan):
  """Checks probs_BNTS of every layer: rows add up to 1, and are 0 in the future."""
  family, tokens_BT = FAMILIES["llama"], tokens(2, 6)
  model = family.model(scan=scan)
  _, variables = jax.jit(
    lambda params: model.apply({"params": params}, tokens_BT, mutable=["intermediates"])
  )(family.params())
  probs_LBNTS = variables["intermediates"]["blocks"]["layer"]["attention"][
    "probs_BNTS"
  ][0]
  assert probs_LBNTS.shape == (2, 2, 4, 6, 6)
  np.testing.assert_allclose(probs_LBNTS.sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(np.triu(probs_LBNTS, 1), 0)


def test_gradients_of_an_unrolled_depth_are_put_together_once():
  """Guards against indexing, which adds up L arrays of the stack's size."""
  family = FAMILIES["llama"]
  model, params = family.model(scan=False), family.params()
  loss = lambda params: model.apply({"params": params}, tokens(2, 6))[0].sum()
  program = str(jax.make_jaxpr(jax.grad(loss))(params))
  for leaf in jax.tree.leaves(params["blocks"]):
    shape = f"f32[{','.join(map(str, leaf.shape))}]"
    assert f"{shape} = concatenate" in program
    assert f"{shape} = pad" not in program


@pytest.mark.parametrize("scan", [True, False])
def test_rows_of_a_cache_are_taken(scan):
  model = FAMILIES["llama"].model(scan=scan)
  cache = model.init_cache(2, 3)
  cache, slot = cache.place(jnp.array([[0, 1], [0, -1]]))
  assert (slot.tolist(), cache.index_B.tolist()) == ([0, 0], [2, 2])
  np.testing.assert_array_equal(cache.positions_BS, [[0, 1, -1], [0, -1, -1]])
  selected = cache.take(jnp.array([1, 0, 1, 1]))
  np.testing.assert_array_equal(selected.positions_BS[:, 1], [-1, 1, -1, -1])
  keys = selected.keys if scan else jnp.stack(selected.keys)
  assert keys.shape == (2, 4, 3, 2, 8)


def test_the_residual_stream_starts_with_a_spread_that_depth_does_not_change():
  """Output weights are scaled by 1/sqrt(2 L), so all depths start with one spread."""

  def spread(count):
    model = models.build("decoder", vocab=64, width=64, heads=4, layers=count)

    def down_weight(key):  # XLA computes this weight alone
      params = unbox(model.init(key, tokens(1, 2))["params"])
      return params["blocks"]["layer"]["ff"]["down"]

    return float(jax.jit(down_weight)(jax.random.key(0)).std()) * math.sqrt(2 * count)

  np.testing.assert_allclose(spread(1), spread(6), rtol=0.03)
