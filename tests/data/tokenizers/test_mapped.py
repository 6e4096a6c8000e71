"""Folders of Marian and M2M-100: ids, texts and specials are those of transformers."""

import functools
import io

import hub
import pytest
import sentencepiece
import transformers
from texts import TEXTS
from transformers.models.m2m_100 import tokenization_m2m_100

from lm.data import tokenizers
from lm.generate import prompts

LINES = TEXTS.splitlines()


@functools.cache
def pieces(half: int, model_type: str) -> tuple[bytes, tuple[str, ...]]:
  """Returns (a SentencePiece model learnt from half of the texts, its pieces)."""
  file = io.BytesIO()
  lines = LINES[half::2] * 3
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_writer=file,
    vocab_size=330,
    model_type=model_type,
    minloglevel=2,
    hard_vocab_limit=False,
  )
  model = sentencepiece.SentencePieceProcessor(model_proto=file.getvalue())
  return file.getvalue(), tuple(model.id_to_piece(i) for i in range(len(model)))


def unseen(text: str) -> bool:
  """True if the source's pieces lack several characters in a row of a text."""
  model = sentencepiece.SentencePieceProcessor(model_proto=pieces(0, "unigram")[0])
  known = set(pieces(0, "unigram")[1])
  return any(
    len(piece) > 1 and piece not in known for piece in model.encode(text, out_type=str)
  )


def marian(folder, **fields):
  """Writes a folder as OPUS-MT models have it; returns it."""
  (source, own), (target, others) = (pieces(half, "unigram") for half in (0, 1))
  both = sorted(({*own, *others} - {"<s>", "</s>", "<unk>"}) | {">>fra<<", ">>deu<<"})
  vocab = {text: id for id, text in enumerate(["</s>", "<unk>", *both, "<pad>"])}
  files = {"source.spm": source, "target.spm": target, "vocab.json": vocab}
  files["config.json"] = dict(model_type="marian")
  files["tokenizer_config.json"] = dict(source_lang="en", target_lang="fr") | fields
  return hub.write(folder, files)


def m2m100(folder):
  """Writes a folder as M2M-100's models have it; returns it."""
  model, texts = pieces(0, "bpe")
  named = ["<s>", "<pad>", "</s>", "<unk>"]
  own = [text for text in texts if text not in named]
  codes = tokenization_m2m_100.FAIRSEQ_LANGUAGE_CODES["m2m100"]
  special = [f"__{code}__" for code in codes]
  files = {
    "sentencepiece.bpe.model": model,
    "vocab.json": {text: id for id, text in enumerate([*named, *own])},
    "config.json": dict(model_type="m2m_100"),
    "tokenizer_config.json": dict(additional_special_tokens=special),
  }
  return hub.write(folder, files)


@pytest.fixture(params=[marian, m2m100])
def pair(request, tmp_path):
  """Returns (ours, hf_tokenizer) of a folder."""
  folder = request.param(tmp_path)
  return tokenizers.load(folder), transformers.AutoTokenizer.from_pretrained(folder)


def test_a_folder_is_what_transformers_makes_of_it(pair):
  ours, hf_tokenizer = pair
  assert ours.size == len(hf_tokenizer)
  for role in ("eos", "unk", "pad"):
    assert getattr(ours, role) == getattr(hf_tokenizer, f"{role}_token_id")
  special = ours.special
  texts = [t for t in hub.strings() if not any(s in t for s in special)] + LINES[:60]
  if isinstance(hf_tokenizer, transformers.MarianTokenizer):
    texts = [text for text in texts if not unseen(text)]
  for text in texts:
    expected = hf_tokenizer(text)["input_ids"]
    assert ours.prompt(text).tolist() == expected, repr(text)
    decoded = hf_tokenizer.decode(expected, skip_special_tokens=True)
    assert ours.decode(expected).strip() == decoded, repr(text)
  assert len(texts) > 75


def test_what_is_saved_says_the_same(pair, tmp_path):
  ours, _ = pair
  ours.save(tmp_path / "ours")
  again = tokenizers.load(tmp_path / "ours")
  assert (again.digest, again.size) == (ours.digest, ours.size)
  for text in LINES[:20]:
    assert again.prompt(text).tolist() == ours.prompt(text).tolist()


def test_texts_of_the_other_language_are_read_back(tmp_path):
  """Decodes ids of target.spm, whose pieces the source may lack."""
  folder = marian(tmp_path)
  ours = tokenizers.load(folder)
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  for text in LINES[1:80:2]:
    ids = hf_tokenizer(text_target=text)["input_ids"]
    assert ours.decode(ids).strip() == hf_tokenizer.decode(
      ids, skip_special_tokens=True
    )


def test_the_language_to_write_comes_first(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "b").mkdir()
  folder = marian(tmp_path / "a")
  ours = tokenizers.load(folder)
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  first, second, *_ = [line for line in LINES if not unseen(line)]
  for text in (f">>deu<< {first}", f">>fra<<{second}"):
    assert ours.prompt(text).tolist() == hf_tokenizer(text)["input_ids"]
  folder = m2m100(tmp_path / "b")
  ours = tokenizers.load(folder)
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(folder, src_lang="fr")
  [ids] = prompts.encode(ours, f"__fr__ __de__ {LINES[0]}")
  expected = hf_tokenizer(LINES[0])["input_ids"]
  assert ids.tolist() == [*expected, hf_tokenizer.get_lang_id("de")]


def test_what_is_not_read_is_one_line(tmp_path):
  folder = marian(tmp_path, separate_vocabs=True)
  with pytest.raises(ValueError, match="a vocabulary for each of two languages"):
    tokenizers.load(folder)
  (folder / "vocab.json").unlink()
  with pytest.raises(ValueError, match="gives pieces ids"):
    tokenizers.load(folder)
