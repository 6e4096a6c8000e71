"""Models loaded and converted in bfloat16: half the memory, the same products."""

import ggufs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import tokens
from hf_models import saved

import lm
from lm import models, stores, trees
from lm.letters import unbox

FLAVOUR = "llama, grouped"


def dtypes(params) -> set[str]:
  return {str(leaf.dtype) for leaf in jax.tree.leaves(params)}


def num_bytes(params) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def rounded(params):
  return jax.tree.map(lambda x: jnp.asarray(x, "bfloat16"), params)


def assert_same(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_loaded_in_bfloat16(tmp_path):
  """Also from a run's folder and from GGUF; the logits are those of the products."""
  _, folder = saved(FLAVOUR)
  whole = lm.load(folder)
  lm.save(tmp_path / "run", *whole)
  for path in (folder, tmp_path / "run"):
    model, params, _ = lm.load(path, dtype="bfloat16")
    assert model.config.run.dtype == "bfloat16" and dtypes(params) == {"bfloat16"}
    assert num_bytes(params) * 2 == num_bytes(whole[1])
    assert_same(params, rounded(whole[1]))
  _, gguf_params, _ = lm.load(ggufs.tiny(tmp_path / "a.gguf"), dtype="bfloat16")
  assert dtypes(gguf_params) == {"bfloat16"}
  logits_BTV = model.apply({"params": params}, tokens(2, 8))[0]
  expected_BTV = whole[0].apply({"params": whole[1]}, tokens(2, 8))[0]
  assert np.corrcoef(logits_BTV.ravel(), expected_BTV.ravel())[0, 1] > 0.99
  model, params, _ = lm.load(folder, dtype="float16")
  assert dtypes(params) == {"float16"}


def test_converted_in_bfloat16(tmp_path):
  """A run's folder keeps the dtype, loads in it, and can be read in any other."""
  _, folder = saved(FLAVOUR)
  store = stores.open(folder)
  stores.write(tmp_path / "narrow", store, dtype="bfloat16")
  stores.write(tmp_path / "wide", store)
  size_of = {
    name: sum(f.stat().st_size for f in (tmp_path / name / "checkpoints").rglob("*"))
    for name in ("narrow", "wide")
  }
  assert size_of["narrow"] < 0.8 * size_of["wide"]
  model, params, tokenizer = lm.load(tmp_path / "narrow")
  assert dtypes(params) == {"bfloat16"} and tokenizer is None
  assert_same(params, lm.load(folder, dtype="bfloat16")[1])
  _, whole, _ = lm.load(tmp_path / "narrow", dtype="float32")
  assert dtypes(whole) == {"float32"}
  assert_same(whole, jax.tree.map(lambda x: x.astype("float32"), params))
  # A run's folder again, and Hugging Face's, which transformers wrote in float32.
  lm.save(tmp_path / "again", model, params, None)
  assert_same(lm.load(tmp_path / "again")[1], params)
  stores.write(tmp_path / "hf", stores.open(tmp_path / "narrow"), dtype="bfloat16")
  assert_same(lm.load(tmp_path / "hf", dtype="bfloat16")[1], params)


def test_a_new_head_is_drawn_in_it():
  _, folder = saved("bert, as trained")
  options = dict(head="classes", classes=3)
  params = lm.load(folder, dtype="bfloat16", **options)[1]
  assert dtypes(params) == {"bfloat16"}
  wide = lm.load(folder, **options)[1]
  assert_same(params["classifier"], rounded(wide["classifier"]))


def test_training_is_in_float32_whatever_it_starts_from():
  model = models.build("decoder", vocab=32, width=8, layers=1, heads=2, context=8)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  batch = {name: np.arange(16, dtype=np.int32).reshape(2, 8) for name in ("tokens_BT",)}
  batch |= {"targets_BT": batch["tokens_BT"], "weights_BT": np.ones((2, 8), np.float32)}
  narrow = rounded(params)
  values = jax.tree.map(lambda x: x.astype("float32"), narrow)
  trained, expected = (
    lm.fit(model, start, lambda n: batch, num_steps=2)[0] for start in (narrow, values)
  )
  assert dtypes(trained) == {"float32"}
  assert_same(trained, expected)


def test_a_store_in_bfloat16_can_start_a_run(tmp_path):
  """Reads parameters in the dtype that training wants."""
  stores.write(tmp_path / "run", stores.open(saved(FLAVOUR)[1]), dtype="bfloat16")
  store = stores.open(tmp_path / "run")
  assert store.params_dtype == "bfloat16"
  wanted = stores.abstract(store.model)[0]
  store.check(wanted)
  params = store.params(wanted)
  assert dtypes(params) == {"float32"}
  lazy = store.params(wanted, stay=True)
  for path, leaf in trees.by_path(lazy).items():
    array = np.asarray(leaf)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, trees.by_path(params)[path])


def test_values_too_large_are_one_line(tmp_path):
  path = ggufs.tiny(tmp_path / "a.gguf")
  model, params, _ = lm.load(path)
  table = params["embed"]["table"].at[3, 3].set(1e5)
  lm.save(tmp_path / "run", model, params | {"embed": {"table": table}}, None)
  stores.write(tmp_path / "hf", stores.open(tmp_path / "run"))
  with pytest.raises(
    ValueError, match=r"embed/table has values up to 1e\+05, more than"
  ):
    lm.load(tmp_path / "hf", dtype="float16")
