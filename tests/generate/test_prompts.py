"""Prompts as they come: text, bytes and ids; what is none of them is one line."""

import numpy as np
import pytest

from lm.data import tokenizers
from lm.generate import chat, prompts

BYTES = tokenizers.byte_tokenizer()


@pytest.mark.parametrize(
  "prompt", ["aé", "aé".encode(), ["aé"], ["aé".encode()], [*"aé".encode()]]
)
def test_text_its_bytes_and_its_ids_are_the_same(prompt):
  [ids] = prompts.encode(BYTES, prompt)
  assert ids.tolist() == list("aé".encode())


@pytest.mark.parametrize(
  "prompt",
  [
    b"a\xff",
    [b"\xc3"],
    b"a\xff".decode(errors="surrogateescape"),
    "\ud83d",
    ["\udcff"],
  ],
)
def test_bytes_that_are_no_text_are_one_line(prompt):
  with pytest.raises(ValueError, match=r"is not UTF-8 from .* on; give") as error:
    prompts.encode(BYTES, prompt)
  assert str(error.value).isascii() and "\n" not in str(error.value)


def test_a_message_that_is_no_text_is_one_line():
  config = {"chat_template": "{{ messages[0].content }}"}
  tokenizer = tokenizers.Tokenizer(BYTES._inner, config)
  with pytest.raises(ValueError, match="the chat template failed: UnicodeEncodeError"):
    chat.encode(tokenizer, [{"role": "user", "content": "a\udcff"}])


def test_ids_are_not_taken_for_text():
  ids = np.array([1, 2], np.int32)
  assert [x.tolist() for x in prompts.encode(BYTES, ids)] == [[1, 2]]
  assert [x.tolist() for x in prompts.encode(BYTES, [ids, "a"])] == [[1, 2], [97]]
