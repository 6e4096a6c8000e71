"""Folders as a hub has them: ids, texts and specials are those of AutoTokenizer."""

import hub
import layouts
import pytest
import transformers
from hub import GPT2, ROBERTA, byte_files, pieces, words
from layouts import LAYOUTS, REFUSED, decoder, of, spm
from tokenizers import Tokenizer as Inner
from tokenizers import pre_tokenizers

from lm.data import tokenizers
from lm.errors import Mistake
from lm.generate import chat

ROLES = ("bos", "eos", "unk", "pad")


@pytest.fixture(params=LAYOUTS)
def pair(request, tmp_path):
  """Returns (ours, hf_tokenizer) of a folder."""
  hub.write(tmp_path, LAYOUTS[request.param]())
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  return tokenizers.load(tmp_path), hf_tokenizer


def ids_of(hf_tokenizer, **options) -> list[list[int]]:
  """Returns the ids of all strings."""
  return hf_tokenizer(hub.strings(), **options)["input_ids"]


def test_a_folder_is_what_transformers_makes_of_it(pair):
  ours, hf_tokenizer = pair
  assert ours.size == len(hf_tokenizer)
  for role in ROLES:
    id = getattr(hf_tokenizer, f"{role}_token_id")
    assert id is None or getattr(ours, role) == id, role
  named = hf_tokenizer.special_tokens_map
  assert {k: v for k, v in named.items() if isinstance(v, str)}.items() <= (
    ours.special_tokens.items()
  )
  added = hf_tokenizer.added_tokens_decoder.values()
  assert set(ours.special) == {token.content for token in added if token.special}
  texts = hub.strings()
  marked = ids_of(hf_tokenizer, add_special_tokens=False)
  plain = ids_of(hf_tokenizer, add_special_tokens=False, split_special_tokens=True)
  whole = ids_of(hf_tokenizer, split_special_tokens=True)
  decoded = hf_tokenizer.batch_decode(marked, skip_special_tokens=True)
  encoded = ours.encode_batch(texts)
  special = {hf_tokenizer.convert_tokens_to_ids(text) for text in ours.special}
  special.discard(hf_tokenizer.unk_token_id)
  for i, text in enumerate(texts):
    assert ours.marked(text).tolist() == marked[i], repr(text)
    assert ours.decode(marked[i]) == decoded[i], repr(text)
    assert special.isdisjoint(encoded[i].tolist()), repr(text)
    if special.isdisjoint(plain[i]):  # unigram takes "</s>" in a text for a piece there
      assert encoded[i].tolist() == plain[i], repr(text)
      assert ours.prompt(text).tolist() == whole[i], repr(text)
  if ours.chat_template:
    # A message's own special tokens are text here, so it has none.
    texts = [text for text in texts if not any(s in text for s in ours.special)]
    messages = [{"role": "user", "content": text} for text in texts[:60]]
    expected = hf_tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert chat.encode(ours, messages).tolist() == expected["input_ids"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_saved_says_the_same_to_both(name, tmp_path):
  ours = tokenizers.load(hub.write(tmp_path, LAYOUTS[name]()))
  ours.save(tmp_path / "ours")
  again = tokenizers.load(tmp_path / "ours")
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
  assert (again.digest, again.stops) == (ours.digest, ours.stops)
  assert again.size == len(hf_tokenizer)
  for text, ids in zip(hub.strings(), ids_of(hf_tokenizer), strict=True):
    if not any(special in text for special in ours.special):
      assert ours.prompt(text).tolist() == ids, repr(text)


def load(folder, layout):
  return tokenizers.load(hub.write(folder, layout))


def test_llama_begins_with_bos_unless_its_config_says_no(tmp_path):
  """AutoTokenizer adds none, although its class documents True: so did every model."""
  ours = load(tmp_path, spm("llama") | of("llama", "LlamaTokenizer"))
  assert ours.prompt("a").tolist() == [ours.bos, *ours.encode("a")]
  ours = load(tmp_path, of("llama", "LlamaTokenizer", add_bos_token=False))
  assert ours.prompt("a").tolist() == ours.encode("a").tolist()


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "LlamaTokenizer"])
def test_a_tokenizer_json_says_how_words_are_split(name, tmp_path):
  """AutoTokenizer splits as the class does, which SmolLM 2 was not trained with."""
  inner = Inner.from_str(
    hub.byte_level_json(
      pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
      )
    )
  )
  layout = {"tokenizer.json": inner.to_str()} | of("llama", name)
  ours = load(tmp_path, layout)
  for text in ("1948-12-10", "1,000,000", "3.14159"):
    ids = inner.encode(text, add_special_tokens=False).ids
    assert ours.encode(text).tolist() == ids
  assert ours.size == inner.get_vocab_size()


def test_a_renamed_piece_keeps_its_id(tmp_path):
  """AutoTokenizer has the new name there too, and the old one again behind all."""
  named = decoder("<turn>", start=4)
  ours = load(tmp_path, spm("marked") | of("mistral", added_tokens_decoder=named))
  assert (ours.id("<turn>"), ours.size) == (4, 600)
  assert ours.marked("<turn>").tolist() == [4]


def test_the_class_of_a_folder_of_2019_is_that_of_its_architecture(tmp_path):
  config = {"config.json": {"architectures": ["RobertaForMaskedLM"]}}
  ours = load(tmp_path, byte_files(**ROBERTA) | config)
  assert ours.prompt("").tolist() == [0, 2]


def test_a_vocabulary_in_a_file_of_any_name(tmp_path):
  layout = {"bert-base-vocab.txt": words(), "en.model": pieces("llama")}
  files = byte_files(**GPT2)
  layout |= {f"gpt2-{name}": content for name, content in files.items()}
  hub.write(tmp_path, layout)
  sizes = {name: tokenizers.load(tmp_path / name).size for name in layout if
           not name.endswith(".json")}  # fmt: skip
  expected = {
    "bert-base-vocab.txt": layouts.WORDS,
    "en.model": 600,
    "gpt2-merges.txt": layouts.BYTES,
  }
  assert sizes == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused(name, tmp_path):
  layout, message = REFUSED[name]
  with pytest.raises(Mistake, match=message):
    load(tmp_path, layout)
