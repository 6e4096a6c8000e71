"""Run folders: their config, their messages, and loading a model from them."""

import json

import jax
import numpy as np
import pytest
from families import FAMILIES, MESHES, tokens

import lm
from lm import models, trees
from lm.checkpoint import Checkpoints
from lm.data import tokenizers
from lm.letters import abstract, make_mesh, sharding, shardings, spec
from lm.stores import run
from lm.stores.run import RunFolder

CONFIG = {
  "seed": 0,
  "num_steps": 10,
  "model": {"family": "decoder", "width": 16, "layers": 1, "heads": 2, "context": 8},
  "data": {"source": "shakespeare", "cache": "here"},
  "optim": {"lr": 0.1, "ema": 0.0, "freeze": (("embed/.*", True),)},
  "eval": {"every": 5},
}
BYTES = tokenizers.byte_tokenizer()


def changed(group, **values):
  return CONFIG | {group: CONFIG[group] | values}


def small(**fields):
  fields = CONFIG["model"] | fields
  return models.build(**fields, vocab=BYTES.size)


def noise(model, seed=0):
  """Returns random parameters of `model`."""
  shapes, _ = abstract(model, tokens(1, 2))
  draw = np.random.default_rng(seed)
  draw_leaf = lambda leaf: jax.device_put(draw.standard_normal(leaf.shape, np.float32))
  return jax.tree.map(draw_leaf, shapes)


def assert_same(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def a_run(path, *, config=CONFIG, **fields):
  """Makes a folder as `train` leaves it, with a checkpoint at step 3 of `fields`."""
  folder = RunFolder(path)
  folder.begin(config, small())
  BYTES.save(folder.tokenizer)
  with Checkpoints(folder.checkpoints) as checkpoints:
    checkpoints.save(3, fields, about={})
  return folder


# its config


def test_a_folder_notes_its_config_and_versions(tmp_path):
  folder = RunFolder(tmp_path / "a" / "run")
  folder.begin(CONFIG, small())
  assert folder.config()["model"] == CONFIG["model"]
  assert folder.config()["optim"]["freeze"] == [["embed/.*", True]]
  versions = json.loads((folder.path / "versions.json").read_text())
  assert versions["jax"] == jax.__version__


def test_a_run_goes_on_with_its_config_and_its_free_values(tmp_path):
  folder = a_run(tmp_path, params=noise(small()))
  free = ("num_steps", "eval", "model.remat", "model.backend", "loss.logits_bytes")
  for config in (
    CONFIG,
    CONFIG | {"num_steps": 20},
    changed("eval", every=7),
    changed("model", remat="full", backend="xla"),
    CONFIG | {"loss": {"logits_bytes": 99}},
    changed("data", cache="there"),
  ):
    folder.begin(config, small(), free=(*free, "data.cache"))
  assert folder.config()["data"]["cache"] == "there"


@pytest.mark.parametrize("config, message", [
  (CONFIG | {"seed": 1}, r"seed: 0 then, 1 now"),
  (changed("optim", lr=0.2), r"optim\.lr: 0\.1 then, 0\.2 now"),
  (changed("optim", new=1), r"optim\.new: None then, 1 now"),
  (changed("data", source="sotu"), r"data\.source: 'shakespeare' then, 'sotu' now"),
])  # fmt: skip
def test_a_run_of_another_config_is_refused(tmp_path, config, message):
  folder = a_run(tmp_path, params=noise(small()))
  before = folder.config_file.read_bytes()
  with pytest.raises(
    ValueError, match=rf"another config \({message}\); choose another"
  ):
    folder.begin(config, small())
  assert folder.config_file.read_bytes() == before


def test_a_run_that_came_to_nothing_does_not_count(tmp_path):
  RunFolder(tmp_path).begin(CONFIG, small())
  RunFolder(tmp_path).begin(CONFIG | {"seed": 1}, small())
  assert RunFolder(tmp_path).config()["seed"] == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path):
  with pytest.raises(
    ValueError, match=r"is not a run's folder: it has no config\.json"
  ):
    lm.load(tmp_path)
  RunFolder(tmp_path).config_file.write_text('{"seed": ')
  with pytest.raises(ValueError, match=r"config\.json is damaged"):
    lm.load(tmp_path)


def test_the_manifest_has_a_line_for_every_array():
  model = small()
  shapes, letters = abstract(model, tokens(1, 2))
  mesh = make_mesh(**MESHES["tensor"])
  state = trees.placed(shapes, shardings(mesh, letters, shapes))
  lines = run.manifest(state, letters).splitlines()
  assert len(lines) == len(jax.tree.leaves(shapes))
  table = next(line for line in lines if line.startswith("embed/table"))
  table_spec = str(spec("VD"))
  assert table.split(maxsplit=4) == [
    "embed/table",
    "VD",
    "384x16",
    "float32",
    table_spec,
  ]


# loading


@pytest.mark.parametrize("name", list(FAMILIES))
def test_fields_of_a_model_make_it_again(name):
  model = FAMILIES[name].model(scan=False, dropout=0.25)
  fields = json.loads(json.dumps(models.fields(model)))
  assert models.build(**fields, vocab=model.config.vocab) == model


def test_a_run_is_loaded(tmp_path):
  params = noise(small())
  a_run(tmp_path, params=params, opt={"count": np.int32(3)})
  model, loaded, tokenizer = lm.load(tmp_path)
  assert model == small() and tokenizer.digest == BYTES.digest
  assert_same(loaded, params)
  assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(loaded))


def test_a_run_with_a_moving_average_is_loaded_by_it(tmp_path):
  params, ema = noise(small(), seed=1), noise(small(), seed=2)
  a_run(tmp_path, config=changed("optim", ema=0.9), params=params, ema=ema)
  assert_same(lm.load(tmp_path)[1], ema)


def test_a_run_is_loaded_onto_a_mesh(tmp_path):
  params = noise(small())
  a_run(tmp_path, params=params)
  mesh = make_mesh(**MESHES["tensor"])
  loaded = lm.load(tmp_path, mesh=mesh)[1]
  assert loaded["embed"]["table"].sharding == sharding(mesh, "VD")
  assert_same(loaded, params)


def test_a_step_that_was_not_saved_is_refused(tmp_path):
  a_run(tmp_path, params=noise(small()))
  with pytest.raises(ValueError, match=r"no checkpoint 2 in .*; found: 3"):
    lm.load(tmp_path, step=2)


def test_what_is_saved_is_loaded(tmp_path):
  model, params = small(kv_heads=1, tied=False), noise(small(kv_heads=1, tied=False))
  lm.save(tmp_path / "mine", model, params, BYTES)
  restored, loaded, tokenizer = lm.load(tmp_path / "mine")
  assert restored == model and tokenizer.digest == BYTES.digest
  assert_same(loaded, params)


def test_the_last_saved_is_loaded(tmp_path):
  for seed in (1, 2):
    lm.save(tmp_path, small(), noise(small(), seed), BYTES)
  assert_same(lm.load(tmp_path)[1], noise(small(), seed=2))
  assert Checkpoints(RunFolder(tmp_path).checkpoints, owned=False).steps() == [2]


def test_saving_over_another_run_is_refused(tmp_path):
  params = noise(small())
  a_run(tmp_path, params=params)
  with pytest.raises(ValueError, match="is a run that was trained; choose another"):
    lm.save(tmp_path, small(), noise(small(), seed=1), BYTES)
  assert_same(lm.load(tmp_path)[1], params)


def test_saving_with_the_tokenizer_of_another_model_is_refused(tmp_path):
  model = models.build(**CONFIG["model"], vocab=61)
  with pytest.raises(ValueError, match="model has 61 tokens, the tokenizer 258"):
    lm.save(tmp_path / "new", model, {}, BYTES)
  assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("spoil, message", [
  (lambda p: {"params": p}, "params/blocks/.* is absent in it, float32.* was wanted"),
  (lambda p: p | noise(small(width=32)), r"\[1,32\S*\] in it, float32\[1,16\S*\] was"),
  (lambda p: jax.tree.map(lambda x: x.astype("bfloat16"), p), "is bfloat16"),
])  # fmt: skip
def test_saving_what_could_not_be_loaded_is_refused_and_costs_nothing(
  tmp_path, spoil, message
):
  good = noise(small())
  lm.save(tmp_path / "run", small(), good, BYTES)
  for name in ("run", "new"):
    with pytest.raises(
      ValueError, match=f"do not fit the model: .*{message}.*"
    ) as error:
      lm.save(tmp_path / name, small(), spoil(good), BYTES)
    assert "\n" not in str(error.value)
  assert_same(lm.load(tmp_path / "run")[1], good)
  assert not (tmp_path / "new").exists()
