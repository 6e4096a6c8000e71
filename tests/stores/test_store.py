"""Stores of any kind of path: parameters read, drawn and refused."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
import transformers
from hf_models import GEMMA, LLAMA, bytes_of, saved

import lm
from lm import models, stores, trees
from lm.data import tokenizers
from lm.letters import make_mesh, shardings, unbox
from lm.stores import run
from lm.stores.hf import families

BYTES = tokenizers.byte_tokenizer()
FRESH = ("classifier/.*",)


def assert_same(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def expected_leaves(model):
  shapes, names = stores.abstract(model)
  mesh = make_mesh(jax.devices()[:1])
  return trees.placed(shapes, shardings(mesh, names, shapes))


def initialised(model, seed):
  return unbox(model.init(jax.random.key(seed), np.zeros((1, 8), np.int32))["params"])


def folder_of(path, model, tokenizer=BYTES):
  """Saves a transformers model with a tokenizer of ours; returns `path`."""
  model.save_pretrained(path)
  tokenizer.save(path)
  return path


@pytest.fixture(params=["a folder of Hugging Face", "a run's folder"])
def bert(request, tmp_path):
  _, folder = saved("bert, as trained")
  if request.param == "a run's folder":
    lm.save(tmp_path / "run", *lm.load(folder))
    return tmp_path / "run"
  return folder


def test_a_new_classifier_comes_from_the_callers_key(bert):
  store = stores.open(bert)
  model = models.build(**(store.fields | dict(head="classes", classes=3)))
  learnt = lm.load(bert)[1]
  for seed in (1, 2):
    drawn = initialised(model, seed)
    params = store.params(expected_leaves(model), fresh=FRESH, drawn=drawn)
    assert_same(params["classifier"], drawn["classifier"])
    assert_same({part: params[part] for part in params if part != "classifier"},
         {part: learnt[part] for part in params if part != "classifier"})  # fmt: skip
  assert set(learnt) - set(params) == {"head", "bias", "follows"}


def test_what_does_not_fit_is_named_with_both_shapes(bert):
  store = stores.open(bert)
  model = models.build(**(store.fields | dict(head="classes", classes=3)))
  with pytest.raises(ValueError) as error:
    store.params(expected_leaves(model))
  assert "classifier/w is absent in it, float32[32,3] was wanted" in str(error.value)
  assert "fresh=" in str(error.value) and "\n" not in str(error.value)
  with pytest.raises(ValueError, match=r"fresh='clasifier/\.\*' names no parameter of"):
    store.check(expected_leaves(model), fresh=("clasifier/.*",))
  wide = models.build(**(store.fields | dict(ff=64)))
  with pytest.raises(ValueError, match=r"ff/down is float32\[2,48,32\] in it, float32"):
    store.check(expected_leaves(wide), fresh=(".*/up", ".*/up_bias"))
  bare = expected_leaves(store.model)
  del bare["norm"]  # part of the body: without norms it is another model
  with pytest.raises(ValueError, match=r"norm/bias is float32\[32\] in it, absent was"):
    store.check(bare)


def test_a_head_is_drawn_with_the_seed(bert):
  fields = dict(head="classes", classes=3)
  heads = [lm.load(bert, seed=s, **fields)[1]["classifier"]["w"] for s in (0, 0, 1)]
  np.testing.assert_array_equal(heads[0], heads[1])
  assert not np.array_equal(heads[0], heads[2])
  model = models.build(**(stores.open(bert).fields | fields))
  own_DC = initialised(model, 0)["classifier"][
    "w"
  ]  # not compiled, so rounded differently
  np.testing.assert_allclose(heads[0], own_DC, rtol=1e-6)


def test_a_table_may_be_longer_than_its_tokenizer(tmp_path):
  """Uses a table that is longer by more than its padding, like Qwen's."""
  torch.manual_seed(0)
  config = transformers.Qwen2Config(**LLAMA, vocab_size=600)
  folder = folder_of(tmp_path / "qwen", transformers.Qwen2ForCausalLM(config))
  store = stores.open(folder)
  assert store.tokenizer().size == 258 and store.fields["vocab"] == 600
  model = models.build(**store.fields)
  params = store.params(expected_leaves(model))
  assert params["embed"]["table"].shape[0] == 640
  lm.save(tmp_path / "run", model, params, store.tokenizer())
  restored, loaded, _ = lm.load(tmp_path / "run")
  assert restored == model
  assert_same(loaded, params)


@pytest.fixture
def gemma(tmp_path):
  """Returns a folder with a table of 258 rows, and a special token with id 258."""
  torch.manual_seed(0)
  config = transformers.Gemma3TextConfig(
    **GEMMA, vocab_size=258, sliding_window=5, layer_types=["full_attention"] * 3
  )
  model = transformers.Gemma3ForCausalLM(config)
  tokenizer = BYTES.extended(["<image_soft_token>"])
  return folder_of(tmp_path / "gemma", model, tokenizer)


def test_special_tokens_behind_the_table_are_kept(gemma, tmp_path):
  for source, target in (("gemma", "run"), ("run", "same")):
    stores.write(tmp_path / target, stores.open(tmp_path / source))
  assert bytes_of(tmp_path / "same") == bytes_of(gemma)
  model, _, tokenizer = lm.load(tmp_path / "run")
  assert (model.config.vocab, tokenizer.size) == (258, 259)
  assert max(tokenizer.encode("<image_soft_token> a")) < 258


def test_text_that_becomes_ids_behind_the_table_is_refused(gemma, tmp_path):
  file = gemma / "tokenizer.json"
  fields = json.loads(file.read_text())
  for token in fields["added_tokens"]:
    token["special"] = token["id"] < 258
  file.write_text(json.dumps(fields))
  with pytest.raises(ValueError, match="model has 258 tokens, the tokenizer 259"):
    stores.write(tmp_path / "run", stores.open(gemma))
  assert not (tmp_path / "run").exists()


def test_leaves_stay_on_the_disk_until_they_are_read(bert):
  store = stores.open(bert)
  params = store.params(stores.abstract(store.model)[0], stay=True)
  assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
  assert_same(jax.tree.map(np.asarray, params), lm.load(bert)[1])


def test_a_digest_tells_whether_anything_changed(bert, tmp_path):
  assert stores.open(bert).digest == stores.open(bert).digest
  lm.save(tmp_path / "run", *lm.load(bert))
  before = stores.open(tmp_path / "run").digest
  file = tmp_path / "run" / "model.json"
  file.write_text(file.read_text() + " ")
  assert stores.open(tmp_path / "run").digest != before


def test_older_folders_are_read(tmp_path):
  """Reads folders without model.json, with `theirs` in place of `kept`."""
  _, folder = saved("qwen3")
  stores.write(tmp_path / "run", stores.open(folder))
  model = stores.open(tmp_path / "run").model
  fields = models.fields(model) | {"vocab": model.config.vocab}
  config = {"model": fields, "optim": {"ema": 0.0}, "tokenizer": ""}
  (tmp_path / "run" / "model.json").unlink()
  (tmp_path / "run" / "config.json").write_text(json.dumps(config))
  (tmp_path / "run" / "kept").rename(tmp_path / "run" / "theirs")
  assert lm.load(tmp_path / "run")[0] == model
  stores.write(tmp_path / "same", stores.open(tmp_path / "run"))
  assert bytes_of(tmp_path / "same") == bytes_of(folder)
  # A vocabulary size that only the tokenizer has.
  lm.save(tmp_path / "mine", *(small_model := small()))
  (tmp_path / "mine" / "model.json").unlink()
  config = {"model": models.fields(small_model[0]), "optim": {"ema": 0.0}}
  (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
  assert lm.load(tmp_path / "mine")[0] == small_model[0]


def small():
  fields = dict(width=16, layers=1, heads=2, context=8)
  model = models.build("decoder", vocab=BYTES.size, **fields)
  return model, initialised(model, 0), BYTES


def test_a_config_without_a_model_is_no_run(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError, match="not a run's folder: its config names no model"):
    stores.open(tmp_path)


def test_a_family_is_a_file(tmp_path, monkeypatch):
  """Finds a new file of the folder by its MODEL_TYPES."""
  source = pathlib.Path(families.load("llama").__file__).read_text()
  types = 'MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")'
  assert types in source
  (tmp_path / "yak.py").write_text(source.replace(types, 'MODEL_TYPES = ("yak",)'))
  monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
  folder = tmp_path / "model"
  _, llama = saved("llama, attention biases, wide heads")
  folder.mkdir()
  config = json.loads((llama / "config.json").read_text()) | dict(model_type="yak")
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "model.safetensors").symlink_to(llama / "model.safetensors")
  assert stores.open(folder).family.__name__.endswith("yak")
  assert "yak" in families.names()
  with pytest.raises(ValueError, match=r"no model_type 'zebu'; found: .*, yak"):
    stores.open(folder, family="zebu")
  monkeypatch.undo()
  sys.modules.pop("lm.stores.hf.families.yak")


def test_training_from_nothing_imports_no_foreign_format(tmp_path):
  lm.save(tmp_path / "run", *small())
  script = (
    "import sys, lm\n"
    f"lm.load({str(tmp_path / 'run')!r})\n"
    "names = ('lm.stores.hf', 'lm.stores.gguf', 'lm.disk.safetensors', 'gguf',\n"
    "  'safetensors', 'jinja2', 'torch', 'transformers')\n"
    "print([name for name in names if name in sys.modules])\n"
  )
  result = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True
  )
  assert result.stdout == "[]\n", result.stdout + result.stderr


def test_a_folder_belongs_to_one_model(tmp_path):
  model, params, tokenizer = small()
  lm.save(tmp_path, model, params, tokenizer)
  deeper = models.build("decoder", vocab=258, width=16, layers=2, heads=2, context=8)
  with pytest.raises(ValueError, match=r"another config \(layers: 1 then, 2 now\)"):
    lm.save(tmp_path, deeper, initialised(deeper, 0), tokenizer)
  with pytest.raises(ValueError, match=r"another config \(another tokenizer\)"):
    lm.save(tmp_path, model, params, None)
  with pytest.raises(ValueError, match=r"a model that `train` did not make"):
    run.RunFolder(tmp_path).begin({"seed": 0}, model)
  assert not (tmp_path / "config.json").exists()
