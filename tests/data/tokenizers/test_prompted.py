"""Tokenizers with a prompt: their texts, conversations and files, as Hugging Face's."""

import chats
import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, processors

from lm.data import tokenizers
from lm.data.tokenizers import prompted, vocabulary
from lm.generate import chat

TEXTS = ["the quick fox", "a lazy dog runs", "over"]
SPECIAL = (("<|endoftext|>", 256), ("<|padding|>", 257))  # behind, before
LLAMA = processors.TemplateProcessing(
  single="<|endoftext|> $A",
  pair="<|endoftext|> $A <|endoftext|> $B:1",
  special_tokens=[("<|endoftext|>", 256)],
)
PROCESSORS = {
  "none": None,
  "bytes": processors.ByteLevel(trim_offsets=True),
  "bert": processors.BertProcessing(*SPECIAL),
  "roberta": processors.RobertaProcessing(*SPECIAL, add_prefix_space=False),
  "llama": LLAMA,
  "llama3": processors.Sequence([processors.ByteLevel(trim_offsets=False), LLAMA]),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_all_else_stays_behind_the_prompt(kind, tmp_path):
  tokenizers.byte_tokenizer().save(tmp_path / "plain")
  inner = Tokenizer.from_file(str(tmp_path / "plain" / "tokenizer.json"))
  assert inner.token_to_id("<|endoftext|>") == 256
  if PROCESSORS[kind]:
    inner.post_processor = PROCESSORS[kind]
  inner.save(str(tmp_path / "plain" / "tokenizer.json"))
  plain = tokenizers.load(tmp_path / "plain")
  begun = prompted.begun(plain, 3)
  own = vocabulary.front(begun)
  assert own == [plain.size, plain.size + 1, plain.size + 2]
  for texts in (TEXTS[:1], TEXTS[:2]):
    expected, actual = plain.encoding(*texts), begun.encoding(*texts)
    assert actual.ids == own + expected.ids
    for name in ("type_ids", "offsets", "sequence_ids", "word_ids", "tokens"):
      assert getattr(actual, name)[3:] == getattr(expected, name), name
    assert actual.type_ids[:3] == [0] * 3 and actual.sequence_ids[:3] == [None] * 3
  np.testing.assert_array_equal(begun.encode(TEXTS[0]), plain.encode(TEXTS[0]))
  text = "".join(begun.text_of_id(id) for id in own)
  assert not set(begun.encode(text)) & set(own) and begun.decode(own) == ""

  # A run keeps it, and goes on from it.
  begun.save(tmp_path / "begun")
  again = tokenizers.load(tmp_path / "begun")
  assert again.digest == begun.digest == prompted.begun(again, 3).digest
  assert vocabulary.front(again) == own and not vocabulary.front(plain)
  there = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "begun")
  assert there(TEXTS[0])["input_ids"] == begun.prompt(TEXTS[0]).tolist()
  assert there.decode(own, skip_special_tokens=True) == ""


def test_a_conversation_begins_with_it_once(tmp_path):
  plain = tokenizers.load(chats.tokenizer(tmp_path))
  begun = prompted.begun(plain, 2)
  messages = [dict(role="user", content="hello <|prompt 0|>")]
  ids = chat.encode(begun, messages)
  expected = [*vocabulary.front(begun), *chat.encode(plain, messages)]
  assert ids.tolist() == expected
