"""Verb `convert`: both directions, one-line mistakes, nothing half made.

The other verbs run on folders of Hugging Face here, too.
"""

import json
import math
import pathlib
import re
import shutil

import jax
import numpy as np
import processes
import pytest
import torch
import transformers
from hf_models import bytes_of, saved

import lm
from lm.data import tokenizers
from lm.data.corpus import prepared

SIZES = dict(
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=64,
)


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory) -> pathlib.Path:
  """Returns a Hugging Face folder whose vocabulary is larger than its tokenizer's."""
  folder = tmp_path_factory.mktemp("theirs") / "model"
  config = transformers.LlamaConfig(**SIZES, vocab_size=300)
  torch.manual_seed(0)
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  tokenizers.byte_tokenizer().save(folder)
  return folder


@pytest.fixture(scope="module")
def run_folder(hf_folder, tmp_path_factory) -> pathlib.Path:
  """Returns a run's folder, converted from `hf_folder`."""
  folder = tmp_path_factory.mktemp("ours") / "model"
  result = processes.run("convert", f"--from={hf_folder}", f"--to={folder}")
  assert result.code == 0 and result.err == ""
  assert result.out.startswith(f"{folder}: family=decoder, width=32, layers=2, heads=4")
  assert f"generate --workdir={folder}" in result.out
  assert [p.name for p in folder.parent.iterdir()] == ["model"]
  return folder


def test_in_generate_and_out_again(hf_folder, run_folder, tmp_path):
  restored, half = tmp_path / "again", tmp_path / "half"
  flags = ("--prompt=To be", "--max_tokens=8", "--temperature=0")
  texts = [
    processes.run("generate", f"--workdir={workdir}", *flags).out
    for workdir in (run_folder, hf_folder)
  ]
  assert texts[0] == texts[1] and texts[0].startswith("To be")

  result = processes.run("convert", f"--from={run_folder}", f"--to={restored}")
  assert result.code == 0 and result.err == ""
  assert bytes_of(restored) == bytes_of(hf_folder)
  result = processes.run(
    "convert", f"--from={run_folder}", f"--to={half}", "--dtype=bfloat16"
  )
  assert result.code == 0
  model = transformers.AutoModelForCausalLM.from_pretrained(half)
  assert model.dtype == torch.bfloat16
  assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "half"]


def test_one_that_was_killed_goes_on(hf_folder, run_folder, tmp_path):
  """Keeps the tensors that were written whole, and writes the others again."""
  restored, part = tmp_path / "again", tmp_path / ".again.part"
  command = ("convert", f"--from={run_folder}", f"--to={restored}")
  assert processes.run(*command, spy=("die_in_a_tensor", 9)).code == -9
  assert list(tmp_path.iterdir()) == [part]
  assert (part / "model.safetensors").read_bytes() != hf_folder.joinpath(
    "model.safetensors"
  ).read_bytes()
  assert not (part / "config.json").exists()
  assert 1 < len((part / ".done").read_text().splitlines()) < 9
  result = processes.run(*command)
  assert result.code == 0 and result.err == f"going on in {part}\n"
  assert bytes_of(restored) == bytes_of(hf_folder)
  assert list(tmp_path.iterdir()) == [restored]


def test_mistakes_are_one_line_and_leave_nothing(hf_folder, tmp_path):
  (tmp_path / "there").mkdir()
  bad = tmp_path / "bad"
  shutil.copytree(hf_folder, bad)
  data = (bad / "model.safetensors").read_bytes()
  (bad / "model.safetensors").write_bytes(data[:-4])
  before = sorted(tmp_path.iterdir())
  target = f"--to={tmp_path / 'new'}"
  for flags, reason in (
    ((f"--from={tmp_path / 'nowhere'}", target), "is not a run's folder"),
    (
      (f"--from={hf_folder}", f"--to={tmp_path / 'there'}"),
      "there exists; choose another",
    ),
    ((f"--from={hf_folder}", target, "--family=gptj"), "no model_type 'gptj'; found: "),
    (
      (f"--from={hf_folder}", target, "--dtype=int8"),
      "no dtype 'int8'; found: float32",
    ),
    ((f"--from={bad}", target), "it was cut off or changed: fetch it again"),
    ((f"--from={hf_folder}",), "--to is missing"),
  ):
    result = processes.run("convert", *flags)
    assert result.code == 2 and result.out == "", result.err
    assert result.err.startswith("error: ") and result.err.count("\n") == 1
    assert reason in result.err
  assert sorted(tmp_path.iterdir()) == before


def refused(verb, *flags) -> str:
  """Runs a verb that must fail; returns its stderr, which is one line."""
  result = processes.run(verb, *flags)
  assert result.code == 2 and result.err.startswith("error: "), result.err
  assert result.err.count("\n") == 1, result.err
  return result.err


def test_it_is_scored_on_the_text_of_any_config(hf_folder, tmp_path):
  """Scores with the model's tokenizer, in rows of its context's length."""
  text, path = processes.corpus(tmp_path), f"--workdir={hf_folder}"
  assert "add --config=configs/shakespeare.py" in refused("evaluate", path)
  flags = processes.flags(hf_folder, text, seq=128, data__tokenizer="bpe-300")
  result = processes.run("evaluate", *flags)
  assert result.code == 0 and "preparing text:" in result.err
  metrics = json.loads(result.out)

  byte = tokenizers.byte_tokenizer()
  cache, clean = tmp_path / "cache", dict(unicode="NFC", boilerplate=True)
  clean |= dict(dedup="minhash")
  corpus = prepared.corpus(f"text:{text}", str(hf_folder), clean=clean, cache=cache)
  assert corpus.tokenizer.digest == byte.digest
  assert len(list((cache / "prepared").glob("*/manifest.json"))) == 1
  model = transformers.AutoModelForCausalLM.from_pretrained(hf_folder)
  ids = torch.from_numpy(corpus.tokens("heldout")[:].astype(int))
  nats = 0.0
  for start in range(0, len(ids) - 1, 64):
    row = ids[start : start + 65]
    with torch.no_grad():
      logits_TV = model(row[None, :-1]).logits[0]
    nats += torch.nn.functional.cross_entropy(
      logits_TV, row[1:], reduction="sum"
    ).item()
  nats /= len(ids) - 1
  assert math.isclose(metrics["eval/nats_per_token"], nats, rel_tol=1e-5)
  assert math.isclose(metrics["eval/perplexity"], math.exp(nats), rel_tol=1e-4)
  assert 0 < metrics["eval/bits_per_byte"] < 10


def test_what_an_encoder_is_not_for(hf_folder, tmp_path):
  folder, text = tmp_path / "bert", processes.corpus(tmp_path)
  shutil.copytree(saved("bert, classes")[1], folder)
  generated = ("generate", f"--workdir={folder}", "--prompt=a")
  scored = ("evaluate", *processes.flags(folder, text))
  trained = ("train", *processes.flags(tmp_path / "run", text, init__path=folder))
  for command in (generated, scored):
    assert "has no tokenizer; text needs one" in refused(*command)
  assert "another model than the config: family is 'encoder'" in refused(*trained)
  assert not (tmp_path / "cache").exists()
  tokenizers.byte_tokenizer().save(folder)
  for command in (generated, scored):
    assert "the model has 61 tokens, the tokenizer 258" in refused(*command)
  for file in folder.glob("tokenizer*"):
    file.unlink()
  (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
  answer = processes.run(*generated)  # it classifies
  assert answer.code == 0 and re.match(r"LABEL_\d 0\.\d{3}  LABEL_", answer.out)
  assert "sees the tokens that it should predict" in refused(*scored)


def test_a_run_starts_from_a_table_longer_than_its_tokenizer(tmp_path):
  """Starts from a table like Qwen's, longer by more than its padding."""
  folder, text = tmp_path / "model", processes.corpus(tmp_path)
  torch.manual_seed(0)
  sizes = SIZES | dict(head_dim=8, tie_word_embeddings=True, vocab_size=600)
  config = transformers.Qwen3Config(**sizes)
  transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
  tokenizers.byte_tokenizer().save(folder)
  fields = dict(width=32, layers=2, heads=4, kv_heads=2, ff=48)
  values = {f"model__{name}": value for name, value in fields.items()}
  flags = processes.flags(
    tmp_path / "run", text, init__path=folder, num_steps=1, optim__lr=0.0, **values
  )
  result = processes.run("train", *flags, f"--config.data.tokenizer={folder}")
  assert result.code == 0, result.err
  model, params, _ = lm.load(tmp_path / "run")
  assert model.config.vocab == 600
  jax.tree.map(np.testing.assert_array_equal, params, lm.load(folder)[1])


def test_special_tokens_behind_the_table_are_no_obstacle(tmp_path):
  """Reads a tokenizer like Gemma 3's, with a special token that text never gives."""
  folder, text = tmp_path / "model", processes.corpus(tmp_path)
  torch.manual_seed(0)
  config = transformers.LlamaConfig(**SIZES, vocab_size=258)
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  tokenizers.byte_tokenizer().extended(["<image_soft_token>"]).save(folder)
  result = processes.run("evaluate", *processes.flags(folder, text))
  assert result.code == 0, result.err
  assert json.loads(result.out)["eval/nats_per_token"] > 0
  for source, target in (("model", "run"), ("run", "same")):
    ends = (f"--from={tmp_path / source}", f"--to={tmp_path / target}")
    assert processes.run("convert", *ends).code == 0
  assert bytes_of(tmp_path / "same") == bytes_of(folder)
