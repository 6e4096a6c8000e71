"""Quantised models: the equalities of any model, on disk and on a mesh too."""

import jax
import numpy as np
import pytest
from families import CONTEXT, FAMILIES, MESHES, tokens

import lm
from lm import compress, trees
from lm.data import tokenizers
from lm.letters import abstract, make_mesh
from lm.nn import cpu, linear
from lm.nn.depth import split

BYTES = tokenizers.byte_tokenizer()
PAIRS = [("llama", "int8"), ("moe", "int4"), ("t5", "nf4"), ("mamba2", "int4_scaled")]
PAIRS += [("gemma", "two_of_four"), ("lstm", "fp8"), ("gpt2", "int8_dynamic")]


def small(name, kind, **fields):
  """Returns (model, params) of a family, quantised."""
  family = FAMILIES[name]
  own = {name: value for name, value in fields.items() if name != "scan"}
  subject = compress.Subject(family.model(**fields), family.params(**own))
  return subject.model, subject.quantised(kind)


def dense(params):
  """Returns the parameters with the arrays that the quantised ones stand for."""
  leaves = trees.by_path(params, is_leaf=linear.is_weight)
  return trees.nested({path: linear.dense(w) for path, w in leaves.items()})


def logits(model, params, inputs):
  apply = jax.jit(lambda params: model.apply({"params": params}, **inputs)[0])
  return apply(params)


@pytest.mark.parametrize("name, kind", PAIRS)
def test_scanned_unrolled_and_dense_give_the_same(name, kind):
  model, params = small(name, kind)
  inputs = {"tokens_BT": tokens(2, 8)} | FAMILIES[name].inputs(2)
  expected = logits(model, params, inputs)
  unrolled = FAMILIES[name].model(scan=False)
  np.testing.assert_allclose(logits(unrolled, split(params), inputs), expected, 0, 1e-4)
  if kind != "int8_dynamic":
    np.testing.assert_allclose(logits(model, dense(params), inputs), expected, 0, 1e-4)
  own = logits(model, FAMILIES[name].params(), inputs)
  assert np.abs(own - expected).max() > 1e-3


def test_norms_biases_positions_and_routers_stay_as_they_are():
  places = {
    name: set(compress.places(FAMILIES[name].model())) for name in ("gpt2", "moe", "t5")
  }
  for name, paths in places.items():
    leaves = trees.by_path(abstract(FAMILIES[name].model(), tokens(1, 2))[1])
    kept = {path.rpartition("/")[2] for path in set(leaves) - paths}
    assert "embed/table" in paths
    assert kept <= {"scale", "bias", "table", "router"} | {
      name for name in kept if name.endswith("_bias")
    }, kept
  assert "positions/table" not in places["gpt2"]
  assert "blocks/layer/ff/down" in places["moe"]


@pytest.mark.parametrize("name, kind", [("llama", "int8"), ("gpt2", "int8_dynamic")])
def test_cached_decoding_is_the_full_forward_pass(name, kind):
  model, params = small(name, kind, scan=False)
  tokens_BT = tokens(2, 7)
  expected = logits(model, params, {"tokens_BT": tokens_BT})
  step = jax.jit(lambda p, t, c: model.apply({"params": p}, t, cache=c))
  cache, params = model.init_cache(2, CONTEXT), split(params)
  actual, cache = step(params, tokens_BT[:, :4], cache)
  parts = [actual]
  for t in range(4, 7):
    actual, cache = step(params, tokens_BT[:, t : t + 1], cache)
    parts.append(actual)
  np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, 0, 1e-4)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_on_a_mesh_it_equals_one_device(kind, tmp_path):
  model, params = small("llama", kind)
  expected = logits(model, params, {"tokens_BT": tokens(4, 8)})
  lm.save(tmp_path / "run", model, params, None)
  mesh = make_mesh(**MESHES["tensor"])
  placed = lm.load(tmp_path / "run", mesh=mesh)[1]
  q = placed["blocks"]["layer"]["attention"]["q"]
  assert q.values.addressable_data(0).size == q.values.size // (
    4 if kind == "int8" else 2
  )
  with jax.set_mesh(mesh):
    actual = logits(model, placed, {"tokens_BT": tokens(4, 8)})
  np.testing.assert_allclose(actual, expected, 0, 1e-4)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_experts_in_groups_of_rows_on_a_mesh(kind, monkeypatch):
  """Splits them by hand, as off XLA:CPU, with half of the experts on each device."""
  model, params = small("moe", kind, ff=64)
  expected = logits(model, params, {"tokens_BT": tokens(2, 8)})
  monkeypatch.setattr(cpu, "lacks_ragged_products", lambda: False)
  grouped = logits(model, params, {"tokens_BT": tokens(2, 8)})
  np.testing.assert_allclose(grouped, expected, 0, 1e-4)
  with jax.set_mesh(make_mesh(jax.devices()[:4], expert=2, tensor=2)):
    split_up = logits(model, params, {"tokens_BT": tokens(2, 8)})
  np.testing.assert_allclose(split_up, expected, 0, 1e-4)


def saved_model(**fields):
  """Returns (model, params) of a decoder with the vocabulary of bytes."""
  options = dict(width=64, layers=2, heads=2, context=16, tied=False) | fields
  model = lm.model("decoder", vocab=BYTES.size, **options)
  draw, shapes = np.random.default_rng(0), abstract(model, tokens(1, 2))[0]
  return model, jax.tree.map(
    lambda leaf: jax.numpy.asarray(draw.standard_normal(leaf.shape, np.float32)), shapes
  )


@pytest.mark.parametrize("kind, times", [("int8", 3.6), ("int4", 6.1)])
def test_saved_and_loaded_it_is_the_same_and_as_small_on_disk(kind, times, tmp_path):
  model, params = saved_model(width=256)
  small = compress.make(kind).apply(compress.Subject(model, params))[1]
  sizes = {}
  for name, tree in (("whole", params), ("small", small)):
    lm.save(tmp_path / name, model, tree, BYTES)
    files = tmp_path.joinpath(name, "checkpoints").rglob("state/**/d/*")
    sizes[name] = sum(path.stat().st_size for path in files)
    loaded = lm.load(tmp_path / name)[1]
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, loaded, tree)
  assert sizes["whole"] / sizes["small"] > times
  half = lm.load(tmp_path / "small", dtype="bfloat16")[1]
  assert half["norm"]["scale"].dtype == "bfloat16"
  assert half["embed"]["table"].scales.dtype == small["embed"]["table"].scales.dtype
  with pytest.raises(ValueError, match="belongs to a run of another config") as error:
    lm.save(tmp_path / "small", model, params, BYTES)
  assert "\n" not in str(error.value)


def test_what_does_not_fit_is_one_line(tmp_path):
  other = compress.make("int8").apply(compress.Subject(*saved_model(width=32)))[1]
  with pytest.raises(ValueError, match=r"the parameters do not fit the model: params/"):
    lm.save(tmp_path / "run", saved_model()[0], other, BYTES)
  for name, message in (
    ("int7", "no 'int7' in lm/compress; did you mean 'int8'"),
    ("int8-50", "'int8' removes nothing, so no share of it: 'int8-50'"),
    ("magnitude-0", "0 % are to be removed; wanted 1 to 99"),
  ):
    with pytest.raises(ValueError) as error:
      compress.make(name)
    assert message in str(error.value) and "\n" not in str(error.value)
