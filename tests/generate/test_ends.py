"""What ends an answer: every id that a file, a text or a template names; no other."""

import json

import fakes
import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Inner

import lm
from lm.data import tokenizers
from lm.data.tokenizers import ends
from lm.generate import chat, stream

PLAIN = ["<s>", "</s>", "<|one|>", "<|two|>"]
BOS, EOS, ONE, TWO = range(256, 260)


def folder(path, special=PLAIN, *, is_special=True, **files):
  """Writes the tokenizer of a folder: bytes, then special tokens; and JSON files."""
  vocab = tokenizers.byte_of_char()
  inner = Inner(models.BPE(vocab=vocab, merges=[]))
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  inner.decoder = decoders.ByteLevel()
  add = inner.add_special_tokens if is_special else inner.add_tokens
  add([AddedToken(text, normalized=False) for text in special])
  path.mkdir(parents=True, exist_ok=True)
  inner.save(str(path / "tokenizer.json"))
  config = {"bos_token": "<s>", "eos_token": "</s>"}
  config |= {"tokenizer_class": "PreTrainedTokenizerFast"}
  config |= files.pop("tokenizer_config", {})
  for name, value in {"tokenizer_config": config, **files}.items():
    (path / f"{name}.json").write_text(json.dumps(value))
  return path


def ended(tokenizer, end: int) -> list[str]:
  """Returns how a model that writes "ab", this id and then "c" ends: once each way."""
  model = fakes.small(fakes.ScriptModel, vocab=tokenizer.size)
  params = model.init([*b"ab", end, *b"c" * 40])
  options = dict(max_tokens=8)
  [sampled] = stream.generate(model, params, tokenizer, "x", temperature=0, **options)
  [searched] = stream.search(model, params, tokenizer, "x", beams=1, **options)
  assert sampled.text == searched.text
  assert sampled.finish_reason == searched.finish_reason
  return [sampled.text, sampled.finish_reason]


NAMED = [
  ({}, {EOS}),
  ({"generation_config": {"eos_token_id": ONE}}, {EOS, ONE}),
  ({"generation_config": {"eos_token_id": [ONE, TWO]}}, {EOS, ONE, TWO}),
  ({"config": {"eos_token_id": ONE}}, {EOS, ONE}),
  ({"config": {"eos_token_id": [TWO]}}, {EOS, TWO}),
  (
    {"config": {"eos_token_id": ONE}, "generation_config": {"eos_token_id": TWO}},
    {EOS, ONE, TWO},
  ),
  ({"config": {"eos_token_id": None}, "generation_config": {}}, {EOS}),
  ({"tokenizer_config": {"eos_token": {"content": "<|one|>"}}}, {ONE}),
  # An id without a token ends nothing: it is never drawn.
  ({"config": {"eos_token_id": [ONE, 1 << 40, -1]}}, {EOS, ONE}),
]


@pytest.mark.parametrize("files, expected", NAMED)
def test_ids_that_files_name(files, expected, tmp_path):
  tokenizer = tokenizers.load(folder(tmp_path / "a", **files))
  assert tokenizer.stops == chat.stops(tokenizer) == expected
  for id in (EOS, ONE, TWO):
    assert ended(tokenizer, id) == (
      ["ab", "stop"] if id in expected else ["abccccc", "length"]
    )
  tokenizer.save(tmp_path / "again")
  assert tokenizers.load(tmp_path / "again").stops == expected


@pytest.mark.parametrize("wrong", ["<|one|>", 1.5, True, {"a": 1}, ["1"], [[1]]])
def test_what_is_no_id_is_one_line(wrong, tmp_path):
  path = folder(tmp_path / "a", generation_config={"eos_token_id": wrong})
  with pytest.raises(
    ValueError, match=r"generation_config\.json has eos_token_id=.*id"
  ):
    tokenizers.load(path)


@pytest.mark.parametrize("text", sorted(ends.TURN_ENDS))
def test_ends_of_turns_that_nothing_names(text, tmp_path):
  for is_special in (True, False):
    path = folder(tmp_path / "a", [*PLAIN[:2], text], is_special=is_special)
    tokenizer = tokenizers.load(path)
    assert ended(tokenizer, 258) == ["ab", "stop"]
  # Text in a document that looks like one is text.
  tokenizer = tokenizers.load(folder(tmp_path / "b", [*PLAIN[:2], text]))
  assert 258 not in tokenizer.encode(f"a{text}b")


LOOP = "{{% for m in messages %}}{}{{% endfor %}}"
TEMPLATES = {
  "chatml": LOOP.format("{{'<|one|>' + m['role'] + m['content'] + '<|two|>' + '\n'}}"),
  "trimmed": LOOP.format("<|one|>{{ m.role }}\n{{ m.content | trim }}\n<|two|>\n"),
  "by role": LOOP.format(
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} <|two|>{% endif %}"
  ),
  "raises without a user": (
    "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}"
    + LOOP.format("{{ bos_token + m.content + '<|two|>' }}")
  ),
  "tools": "{% if tools is not none %}{{ tools | length + 'x' }}{% endif %}"
  + LOOP.format("{{ m.content }}<|two|>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_token_that_a_template_puts_behind_an_answer(name, tmp_path):
  path = folder(tmp_path / "a", tokenizer_config={"chat_template": TEMPLATES[name]})
  tokenizer = tokenizers.load(path)
  assert tokenizer.stops == {EOS} and chat.stops(tokenizer) == {EOS, TWO}
  assert ended(tokenizer, TWO) == ["ab", "stop"]
  assert ended(tokenizer, ONE) == ["abccccc", "length"]


def test_templates_that_name_no_end(tmp_path):
  for template in (
    LOOP.format("{{ m.content + eos_token }}"),
    LOOP.format("{{ m.role }}: {{ m.content }}\n"),
    "{{ raise_exception('never') }}",
    "{{ messages[5].content.split('x') }}",
    "x",
  ):
    path = folder(tmp_path / "a", tokenizer_config={"chat_template": template})
    assert chat.stops(tokenizers.load(path)) == {EOS}


def says(path, id: int, **config):
  """Saves a Llama of transformers that says one token and nothing else."""
  sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1)
  sizes |= dict(num_attention_heads=2, max_position_embeddings=64, vocab_size=260)
  model = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(**sizes, tie_word_embeddings=True, **config)
  )
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.fill_(1.0 if "norm" in name else 0.0)
    model.model.embed_tokens.weight[:, 0] = 1.0
    model.model.embed_tokens.weight[id, 0] = 50.0
  folder(path)
  model.generation_config.pad_token_id = EOS
  model.save_pretrained(path)
  return model


@pytest.mark.parametrize("end", [ONE, [TWO, ONE]])
def test_it_ends_where_transformers_does(end, tmp_path):
  """Also in a run's folder, and after the way back to Hugging Face's."""
  hf_model = says(tmp_path / "hf", ONE, eos_token_id=end)
  ids = hf_model.generate(torch.tensor([[97]]), do_sample=False, max_new_tokens=8)
  assert ids[0].tolist() == [97, ONE]
  lm.stores.write(tmp_path / "run", lm.stores.open(tmp_path / "hf"))
  model, params, tokenizer = lm.load(tmp_path / "run")
  lm.save(tmp_path / "mine", model, params, tokenizer)
  lm.stores.write(tmp_path / "out", lm.stores.open(tmp_path / "mine"))
  for name in ("hf", "run", "mine", "out"):
    model, params, tokenizer = lm.load(tmp_path / name)
    [piece] = stream.generate(
      model, params, tokenizer, "a", max_tokens=8, temperature=0
    )
    assert piece.ids.tolist() == [ONE] and piece.finish_reason == "stop"
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
  ids = again.generate(torch.tensor([[97]]), do_sample=False, max_new_tokens=8)
  assert ids[0].tolist() == [97, ONE]


def test_the_log_probability_of_an_end_is_the_models_own(tmp_path):
  tokenizer = tokenizers.load(folder(tmp_path / "a"))
  model = fakes.small(fakes.UniformModel, vocab=tokenizer.size + 40)
  [piece] = stream.generate(
    model, model.init(), tokenizer, "x", max_tokens=3, logprobs=True
  )
  np.testing.assert_allclose(piece.logprobs, -np.log(model.config.vocab), rtol=1e-5)
