"""Answers in conversations: those that transformers marks, by any template."""

import random

import numpy as np
import pytest
from test_chat import CHATML, both_tokenizers

from lm.data import tokenizers
from lm.generate import chat
from lm.generate.chat import answers

MARKED = (
  "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
  "[A]{% generation %}{{ m['content'] | trim }}<|im_end|>{% endgeneration %}{{ '\n' }}"
  "{% else %}[{{ m['role'] }}]{{ m['content'] | trim }}\n{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}[A]{% endif %}"
)
# What is written of a turn depends on whether it is the last one.
LATER = (
  "{% for m in messages %}{% if loop.last %}<last>{% endif %}{{ m['content'] }}"
  "<|im_end|>{% endfor %}"
)
ENDLESS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
ENDLESS += "{% if add_generation_prompt %}assistant: {% endif %}"
CONTENTS = [
  "Hello",
  " two words ",
  "",
  "日本 <b>",
  "\nnew line",
  "<|im_end|>!",
  "<|im_",
]


def chats(count, seed=0):
  """Returns conversations of one turn or more, some behind a message of the system."""
  draw = random.Random(seed)
  message = lambda role: {"role": role, "content": draw.choice(CONTENTS)}
  several = []
  for _ in range(count):
    messages = [message("system")] * draw.randrange(2)
    for _ in range(draw.randrange(1, 4)):
      messages += [message("user"), message("assistant")]
    several.append(messages)
  return several


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["chatml", "marked"])
def test_what_is_written_is_the_answers_and_their_ends(template, tmp_path):
  tokenizer, _ = both_tokenizers(tmp_path, template)
  strip = str.strip if template == MARKED else str
  several = chats(200)
  for messages, c in zip(
    several, answers.conversations(tokenizer, several), strict=True
  ):
    parts, ends = [], np.flatnonzero(c.is_written & (c.ids == tokenizer.eos))
    start = 0
    for end in ends:
      own = np.arange(start, end)[c.is_written[start:end]]
      parts.append(tokenizer.decode(c.ids[own]))
      start = end + 1
    assert not c.is_written[start:].any()
    expected = [m["content"] for m in messages if m["role"] == "assistant"]
    assert parts == list(map(strip, expected))
    prompt = chat.encode(tokenizer, messages[:-1])
    assert c.ids[: c.start].tolist() == prompt.tolist()
    if template == MARKED:
      assert (c.ids == tokenizer.bos).sum() == 1


def test_ids_and_marks_are_those_of_transformers(tmp_path):
  tokenizer, hf_tokenizer = both_tokenizers(tmp_path, MARKED)
  plain = [
    messages
    for messages in chats(100, seed=1)
    if not any("<|im_end|>" in m["content"] for m in messages)
  ]
  assert len(plain) > 20
  encoded = answers.conversations(tokenizer, plain)
  for messages, conversation in zip(plain, encoded, strict=True):
    expected = hf_tokenizer.apply_chat_template(
      messages, return_dict=True, return_assistant_tokens_mask=True
    )
    assert conversation.ids.tolist() == expected["input_ids"]
    assert conversation.is_written.tolist() == list(
      map(bool, expected["assistant_masks"])
    )


@pytest.mark.parametrize(
  "template, message",
  [
    (LATER, "writes conversation 1 otherwise when it goes on"),
    (ENDLESS, "puts no token behind an answer that ends a text"),
    ("{{ raise_exception('no') }}", "the chat template failed: TemplateError: no"),
  ],
)
def test_a_template_that_tells_no_answers_is_refused(template, message, tmp_path):
  tokenizer, _ = both_tokenizers(tmp_path, template)
  question, answer = dict(role="user", content="a"), dict(role="assistant", content="b")
  with pytest.raises(ValueError, match=message):
    answers.conversations(tokenizer, [[question, answer, question, answer]])
  with pytest.raises(ValueError, match="no chat template; wanted a model that chats"):
    answers.conversations(tokenizers.byte_tokenizer(), [[question, answer]])
