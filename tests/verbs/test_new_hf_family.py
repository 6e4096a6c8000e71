"""README's row "Hugging Face family": one new file reads a folder, and writes one.

A model_type of its own with tensor names of its own: a run starts from such a folder,
makes two updates and becomes such a folder again.
"""

import json

import numpy as np
import pytest
from safetensors import numpy as safetensors
from test_where_it_goes import plant, trained

import lm
from lm import stores, trees
from lm.data import tokenizers

YAK = '''
"""Yak: a Llama whose config.json and tensors have other names."""

from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import rows, same, transposed

MODEL_TYPES = ("yak",)
FAMILY, PREFIX, IGNORED = "decoder", "yak.", ""
SIZES = {
  "vocab": "words", "context": "trail", "width": "girth", "layers": "herd",
  "heads": "horns", "kv_heads": "bells", "head_size": "horn", "ff": "wool",
}


def config(hf):
  return {ours: hf.size(name) for ours, name in SIZES.items()} | {"tied": True}


def to_hf(fields):
  return {name: fields[ours] for ours, name in SIZES.items()} | {"model_type": "yak"}


def mapping(hf):
  return [
    row("embed/table", "yak.table", rows(hf["words"])),
    row("norm/scale", "yak.norm", same),
    *layers(
      "blocks/layer/",
      "yak.herd.{}.",
      ("attention_norm/scale", "norm_1", same),
      ("attention/q", "q", transposed()),
      ("attention/k", "k", transposed()),
      ("attention/v", "v", transposed()),
      ("attention/o", "o", transposed(2)),
      ("ff_norm/scale", "norm_2", same),
      ("ff/gate", "gate", transposed()),
      ("ff/up", "up", transposed()),
      ("ff/down", "down", transposed()),
    ),
  ]
'''
V, D, F, H = 258, 16, 24, 8
CONFIG = dict(model_type="yak", words=V, trail=64, girth=D, herd=2)
CONFIG |= dict(horns=2, bells=1, horn=H, wool=F)
LAYER = dict(norm_1=(D,), q=(2 * H, D), k=(H, D), v=(H, D), o=(D, 2 * H))
LAYER |= dict(norm_2=(D,), gate=(F, D), up=(F, D), down=(D, F))


@pytest.fixture
def yak(tmp_path, monkeypatch):
  """(the folder of a yak, its tensors by name), and the family's file."""
  plant(monkeypatch, tmp_path / "new", "lm.stores.hf.families", "yak", YAK)
  shapes = {"yak.table": (V, D), "yak.norm": (D,)}
  for n in range(2):
    shapes |= {f"yak.herd.{n}.{name}": shape for name, shape in LAYER.items()}
  draw = np.random.default_rng(0)
  tensors = {
    name: (draw.normal(size=shape) / 4).astype(np.float32)
    for name, shape in shapes.items()
  }
  folder = tmp_path / "yak"
  folder.mkdir()
  (folder / "config.json").write_text(json.dumps(CONFIG))
  safetensors.save_file(tensors, folder / "model.safetensors")
  tokenizers.byte_tokenizer().save(folder)
  return folder, tensors


def tensors_of(folder):
  return safetensors.load_file(folder / "model.safetensors")


def test_a_run_starts_from_a_new_family_and_becomes_one_again(yak, tmp_path):
  folder, before = yak
  changes = dict(init=dict(path=str(folder)), model={})
  rows = trained(tmp_path, changes | dict(data=dict(tokenizer=str(folder))))
  assert [row["step"] for row in rows] == [1, 2, 2]
  assert np.isfinite(rows[1]["train/loss"])
  run = tmp_path / "run"
  stores.write(tmp_path / "out", stores.open(run), family="yak")
  written = json.loads((tmp_path / "out" / "config.json").read_text())
  assert CONFIG.items() <= written.items()
  after = tensors_of(tmp_path / "out")
  assert after.keys() == before.keys()
  for name, tensor in after.items():
    assert tensor.shape == before[name].shape
    assert not np.array_equal(tensor, before[name]), name  # trained, and
    np.testing.assert_allclose(tensor, before[name], atol=0.1)  # from there
  params, again = (trees.by_path(lm.load(x)[1]) for x in (run, tmp_path / "out"))
  assert params.keys() == again.keys()
  for path, leaf in params.items():
    np.testing.assert_array_equal(leaf, again[path], path)


def test_a_new_family_comes_out_as_it_came_in(yak, tmp_path):
  folder, before = yak
  stores.write(tmp_path / "run", stores.open(folder))
  stores.write(tmp_path / "out", stores.open(tmp_path / "run"))
  for name, tensor in tensors_of(tmp_path / "out").items():
    np.testing.assert_array_equal(tensor, before.pop(name), name)
  assert not before
  for name in ("config.json", "tokenizer.json"):
    text = (tmp_path / "out" / name).read_bytes()
    assert text == (folder / name).read_bytes()
