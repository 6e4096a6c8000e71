"""Folders of Pegasus and mBART: ids are those of SentencePiece, and of transformers.

Version 5 of transformers leaves mBART's normalisation out, and has a space for one at
the end of a text; the models were trained on what SentencePiece makes of a text.
"""

import hub
import pytest
import sentencepiece
import transformers
from layouts import of, spm
from texts import TEXTS

from lm.data import tokenizers
from lm.generate import prompts

BPE = "sentencepiece.bpe.model"
FAMILIES = {
  "pegasus": (lambda: spm("t5", "spiece.model") | of("pegasus"), 103),
  "mbart": (lambda: spm("xlm", BPE) | of("mbart", "MBartTokenizer"), 1),
  "mbart-50": (
    lambda: spm("xlm", BPE) | of("mbart", "MBart50Tokenizer", src_lang="fr_XX"),
    1,
  ),
}


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
  layout, offset = FAMILIES[request.param]
  hub.write(tmp_path, layout())
  return tmp_path, layout(), offset


def test_ids_are_those_of_the_library(folder):
  path, layout, offset = folder
  [data] = [content for name, content in layout.items() if name.endswith(".model")]
  model = sentencepiece.SentencePieceProcessor(model_proto=data)
  ours, unknown = tokenizers.load(path), model.unk_id()
  texts = [t for t in hub.strings() if not any(s in t for s in ours.special)]
  for text in texts:
    ids = [ours.unk if id == unknown else id + offset for id in model.encode(text)]
    assert ours.encode(text).tolist() == ids, repr(text)
  assert len(texts) > 75


def test_names_and_what_is_around_a_text_are_those_of_transformers(folder):
  path, *_ = folder
  ours, hf_tokenizer = (
    tokenizers.load(path),
    transformers.AutoTokenizer.from_pretrained(path),
  )
  assert ours.size == len(hf_tokenizer)
  assert hf_tokenizer.special_tokens_map.items() <= ours.special_tokens.items()
  names = hf_tokenizer.convert_ids_to_tokens(range(ours.size))
  assert [ours.id(name) for name in names] == list(range(ours.size))
  for text in TEXTS.splitlines()[:3]:
    ids = hf_tokenizer(text)["input_ids"]
    assert ours.prompt(text).tolist() == ids
    assert ours.decode(ids).strip() == hf_tokenizer.decode(
      ids, skip_special_tokens=True
    )


def test_what_is_saved_says_the_same(folder, tmp_path):
  path, *_ = folder
  ours = tokenizers.load(path)
  ours.save(tmp_path / "ours")
  again = tokenizers.load(tmp_path / "ours")
  assert (again.digest, again.size) == (ours.digest, ours.size)
  for text in TEXTS.splitlines()[:20]:
    assert again.prompt(text).tolist() == ours.prompt(text).tolist()


def test_a_prompt_names_both_languages_of_mbart_50(tmp_path):
  layout, _ = FAMILIES["mbart-50"]
  hub.write(tmp_path, layout())
  ours = tokenizers.load(tmp_path)
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, src_lang="de_DE")
  line = TEXTS.splitlines()[0]
  [ids] = prompts.encode(ours, f"de_DE sl_SI {line}")
  expected = hf_tokenizer(line)["input_ids"]
  assert ids.tolist() == [*expected, hf_tokenizer.convert_tokens_to_ids("sl_SI")]
