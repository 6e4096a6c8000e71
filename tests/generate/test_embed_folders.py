"""Folders of sentence-transformers: pooling, length and case are those that they say.

The expected values are written out from sentence-transformers' models/Pooling.py.
"""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from hf_models import saved

import lm
from lm import stores
from lm.generate.embed import embed

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop"]
TEXTS = ["a b c d", "E f", "g", "a b c d e f g h i j k l m n"]
KEYS = {
  "cls": "cls_token",
  "max": "max_tokens",
  "mean": "mean_tokens",
  "mean_sqrt_len": "mean_sqrt_len_tokens",
  "weightedmean": "weightedmean_tokens",
  "lasttoken": "lasttoken",
}


def folder(path, modes, *, limit=None, lower=False, steps=(), newer=False):
  """Writes a BERT as sentence-transformers saves it; returns its path."""
  shutil.copytree(saved("bert, bare")[1], path)
  (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
  types = ["models.Transformer", "models.Pooling", *steps]
  paths = ["", "1_Pooling", *(f"{i}_Step" for i, _ in enumerate(steps, 2))]
  modules = [
    dict(idx=i, name=str(i), path=p, type=f"sentence_transformers.{t}")
    for i, (p, t) in enumerate(zip(paths, types, strict=True))
  ]
  pooling = {f"pooling_mode_{key}": name in modes for name, key in KEYS.items()}
  pooling = {"pooling_mode": list(modes)} if newer else pooling
  files = {
    "modules.json": modules,
    "1_Pooling/config.json": {"word_embedding_dimension": 32} | pooling,
    "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": lower},
  }
  (path / "1_Pooling").mkdir()
  for name, value in files.items():
    (path / name).write_text(json.dumps(value))
  return path


def pooled(path, text: str, modes) -> np.ndarray:
  """Returns the embedding of a text by transformers and the formulas of Pooling.py."""
  tokenizer = transformers.BertTokenizer(str(path / "vocab.txt"))
  model = transformers.BertModel.from_pretrained(path).eval()
  batch = tokenizer([text], truncation=True, max_length=16, return_tensors="pt")
  with torch.no_grad():
    x_TD = model(**batch).last_hidden_state[0].numpy()
  weights_T1 = np.arange(1, len(x_TD) + 1)[:, None]
  vectors = {
    "cls": x_TD[0],
    "max": x_TD.max(0),
    "mean": x_TD.mean(0),
    "mean_sqrt_len": x_TD.sum(0) / np.sqrt(len(x_TD)),
    "weightedmean": (x_TD * weights_T1).sum(0) / weights_T1.sum(),
    "lasttoken": x_TD[-1],
  }
  x_D = np.concatenate([vectors[mode] for mode in KEYS if mode in modes])
  return x_D / np.linalg.norm(x_D)


@pytest.mark.parametrize("modes", [*((mode,) for mode in KEYS), ("mean", "cls")])
def test_the_pooling_of_the_folder(modes, tmp_path):
  path = folder(tmp_path / "a", modes)
  model, params, tokenizer = lm.load(path)
  expected_RD = np.stack([pooled(path, text, modes) for text in TEXTS])
  actual_RD = embed(model, params, tokenizer, TEXTS)
  np.testing.assert_allclose(actual_RD, expected_RD, atol=1e-5)
  # A newer file says the same otherwise; a run's folder keeps it.
  newer = folder(tmp_path / "b", modes, newer=True)
  stores.write(tmp_path / "run", stores.open(newer))
  for again in (newer, tmp_path / "run"):
    np.testing.assert_array_equal(embed(*lm.load(again), TEXTS), actual_RD)


def test_what_the_caller_says_wins(tmp_path):
  path = folder(tmp_path / "a", ["cls"], limit=5)
  options = lm.load(path)
  expected_D = pooled(path, TEXTS[0], ["mean"])
  actual_RD = embed(*options, TEXTS[:1], pooling="mean", max_tokens=16)
  np.testing.assert_allclose(actual_RD[0], expected_D, atol=1e-5)
  both_RD = embed(*options, TEXTS[:1], pooling="first+mean", max_tokens=16)
  expected_D = pooled(path, TEXTS[0], ["cls", "mean"])
  np.testing.assert_allclose(both_RD[0], expected_D, atol=1e-5)


def test_length_and_case_of_the_folder(tmp_path):
  path = folder(tmp_path / "a", ["mean"], limit=5)
  cut = embed(*lm.load(path), [TEXTS[3], TEXTS[3].upper()])
  np.testing.assert_allclose(cut[0], pooled(path, "a b c", ["mean"]), atol=1e-5)
  (path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
  cased = embed(*lm.load(path), ["A b", "a b"])
  assert np.abs(cased[0] - cased[1]).max() > 0.01
  (path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
  cased = embed(*lm.load(path), ["A b", "a b"])
  np.testing.assert_array_equal(cased[0], cased[1])


def test_a_folder_that_says_nothing_is_averaged(tmp_path):
  path = folder(tmp_path / "a", ["cls"])
  for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
    (path / name).unlink()
  actual_RD = embed(*lm.load(path), TEXTS)
  np.testing.assert_allclose(actual_RD[2], pooled(path, "g", ["mean"]), atol=1e-5)


def test_steps_that_are_not_built(tmp_path):
  path = folder(tmp_path / "a", ["mean"], steps=["models.Normalize"])
  assert embed(*lm.load(path), TEXTS).shape == (4, 32)
  path = folder(tmp_path / "b", ["mean"], steps=["models.Dense", "models.Normalize"])
  with pytest.raises(ValueError, match="makes embeddings with Dense, which is not"):
    embed(*lm.load(path), TEXTS)
  assert embed(*lm.load(path), TEXTS, pooling="mean").shape == (4, 32)
  path = folder(tmp_path / "c", ["attention"], newer=True)
  with pytest.raises(ValueError, match="embeddings with attention, which is not built"):
    embed(*lm.load(path), TEXTS)
