"""The verb: both ways as a process, mistakes in one line, nothing half made.

And what other verbs do with a folder of theirs.
"""

import json
import math
import pathlib
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
def theirs(tmp_path_factory) -> pathlib.Path:
  """A folder of Hugging Face's, with a vocabulary larger than its tokenizer's."""
  folder = tmp_path_factory.mktemp("theirs") / "model"
  config = transformers.LlamaConfig(**SIZES, vocab_size=300)
  torch.manual_seed(0)
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  tokenizers.byte_tokenizer().save(folder)
  return folder


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory) -> pathlib.Path:
  """A run's folder, converted from it."""
  folder = tmp_path_factory.mktemp("ours") / "model"
  done = processes.run("convert", f"--from={theirs}", f"--to={folder}")
  assert done.code == 0 and done.err == ""
  assert done.out.startswith(f"{folder}: family=decoder, width=32, layers=2, heads=4")
  assert f"generate --workdir={folder}" in done.out
  assert [p.name for p in folder.parent.iterdir()] == ["model"]
  return folder


def test_in_generate_and_out_again(theirs, ours, tmp_path):
  again, half = tmp_path / "again", tmp_path / "half"
  ask = ("--prompt=To be", "--max_tokens=8", "--temperature=0")
  texts = [
    processes.run("generate", f"--workdir={where}", *ask).out
    for where in (ours, theirs)
  ]
  assert texts[0] == texts[1] and texts[0].startswith("To be")

  done = processes.run("convert", f"--from={ours}", f"--to={again}")
  assert done.code == 0 and done.err == ""
  assert bytes_of(again) == bytes_of(theirs)
  done = processes.run("convert", f"--from={ours}", f"--to={half}", "--dtype=bfloat16")
  assert done.code == 0
  model = transformers.AutoModelForCausalLM.from_pretrained(half)
  assert model.dtype == torch.bfloat16
  assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "half"]


def test_one_that_was_killed_goes_on(theirs, ours, tmp_path):
  """With what was written for good; what was half written is written again."""
  again, part = tmp_path / "again", tmp_path / ".again.part"
  command = ("convert", f"--from={ours}", f"--to={again}")
  assert processes.run(*command, spy=("die_in_a_tensor", 9)).code == -9
  assert list(tmp_path.iterdir()) == [part]
  assert (part / "model.safetensors").read_bytes() != theirs.joinpath(
    "model.safetensors"
  ).read_bytes()
  assert not (part / "config.json").exists()
  assert 1 < len((part / ".done").read_text().splitlines()) < 9
  done = processes.run(*command)
  assert done.code == 0 and done.err == f"going on in {part}\n"
  assert bytes_of(again) == bytes_of(theirs)
  assert list(tmp_path.iterdir()) == [again]


def test_mistakes_are_one_line_and_leave_nothing(theirs, tmp_path):
  (tmp_path / "there").mkdir()
  bad = tmp_path / "bad"
  shutil.copytree(theirs, bad)
  data = (bad / "model.safetensors").read_bytes()
  (bad / "model.safetensors").write_bytes(data[:-4])
  before = sorted(tmp_path.iterdir())
  to = f"--to={tmp_path / 'new'}"
  for flags, reason in (
    ((f"--from={tmp_path / 'nowhere'}", to), "is not a run's folder"),
    (
      (f"--from={theirs}", f"--to={tmp_path / 'there'}"),
      "there exists; choose another",
    ),
    ((f"--from={theirs}", to, "--family=bart"), "no model_type 'bart'; found: "),
    ((f"--from={theirs}", to, "--dtype=int8"), "no dtype 'int8'; found: float32"),
    ((f"--from={bad}", to), "it was cut off or changed: fetch it again"),
    ((f"--from={theirs}",), "--to is missing"),
  ):
    done = processes.run("convert", *flags)
    assert done.code == 2 and done.out == "", done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert reason in done.err
  assert sorted(tmp_path.iterdir()) == before


def refused(verb, *flags) -> str:
  """The one line of a mistake."""
  done = processes.run(verb, *flags)
  assert done.code == 2 and done.err.startswith("error: "), done.err
  assert done.err.count("\n") == 1, done.err
  return done.err


def test_it_is_scored_on_the_text_of_any_config(theirs, tmp_path):
  """By its own tokenizer, in rows that its context holds."""
  text, path = processes.corpus(tmp_path), f"--workdir={theirs}"
  assert "add --config=configs/shakespeare.py" in refused("evaluate", path)
  flags = processes.flags(theirs, text, seq=128, data__tokenizer="bpe-300")
  done = processes.run("evaluate", *flags)
  assert done.code == 0 and "preparing text:" in done.err
  found = json.loads(done.out)

  byte = tokenizers.byte_tokenizer()
  cache, clean = tmp_path / "cache", dict(unicode="NFC", boilerplate=True)
  clean |= dict(dedup="minhash")
  corpus = prepared.corpus(f"text:{text}", str(theirs), clean=clean, cache=cache)
  assert corpus.tokenizer.digest == byte.digest
  assert len(list((cache / "prepared").glob("*/manifest.json"))) == 1
  model = transformers.AutoModelForCausalLM.from_pretrained(theirs)
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
  assert math.isclose(found["eval/nats_per_token"], nats, rel_tol=1e-5)
  assert math.isclose(found["eval/perplexity"], math.exp(nats), rel_tol=1e-4)
  assert 0 < found["eval/bits_per_byte"] < 10


def test_what_an_encoder_is_not_for(theirs, tmp_path):
  folder, text = tmp_path / "bert", processes.corpus(tmp_path)
  shutil.copytree(saved("bert, classes")[1], folder)
  asked = ("generate", f"--workdir={folder}", "--prompt=a")
  scored = ("evaluate", *processes.flags(folder, text))
  trained = ("train", *processes.flags(tmp_path / "run", text, init__path=folder))
  for ask in (asked, scored):
    assert "has no tokenizer; text needs one" in refused(*ask)
  assert "has another model: " in refused(*trained)
  assert not (tmp_path / "cache").exists()
  tokenizers.byte_tokenizer().save(folder)
  assert "family 'encoder' writes no text" in refused(*asked)
  assert "sees the tokens that it should name" in refused(*scored)


def test_a_run_starts_from_a_table_longer_than_its_tokenizer(tmp_path):
  """By more than what rows are padded to, as Qwen's: its vocabulary is the model's."""
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
  done = processes.run("train", *flags, f"--config.data.tokenizer={folder}")
  assert done.code == 0, done.err
  model, params, _ = lm.load(tmp_path / "run")
  assert model.config.vocab == 600
  jax.tree.map(np.testing.assert_array_equal, params, lm.load(folder)[1])


def test_special_tokens_behind_the_table_are_no_obstacle(tmp_path):
  """Gemma 3 has one; text never becomes it."""
  folder, text = tmp_path / "model", processes.corpus(tmp_path)
  torch.manual_seed(0)
  config = transformers.LlamaConfig(**SIZES, vocab_size=258)
  transformers.LlamaForCausalLM(config).save_pretrained(folder)
  tokenizers.byte_tokenizer().extended(["<image_soft_token>"]).save(folder)
  done = processes.run("evaluate", *processes.flags(folder, text))
  assert done.code == 0, done.err
  assert json.loads(done.out)["eval/nats_per_token"] > 0
  for source, target in (("model", "run"), ("run", "same")):
    ends = (f"--from={tmp_path / source}", f"--to={tmp_path / target}")
    assert processes.run("convert", *ends).code == 0
  assert bytes_of(tmp_path / "same") == bytes_of(folder)
