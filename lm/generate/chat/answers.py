"""Conversations to learn from: their ids, and which of them the assistant writes.

A template need not mark what the assistant writes. Every answer is the difference of
two renderings: up to where it begins, and up to its end. So a template has to write the
beginning of a conversation as it writes it alone; one that does not is refused.
"""

import itertools
import json
from typing import NamedTuple

import numpy as np

from lm.errors import Mistake
from lm.generate import chat

ANSWERS = "assistant"  # the role that writes them


class Conversation(NamedTuple):
  """A conversation up to the end of its last answer."""

  ids: np.ndarray
  is_written: np.ndarray  # True for the tokens of answers, and for those that end them
  start: int  # of the last answer: what is before is its prompt, as `chat.encode`


def conversations(tokenizer, several) -> list[Conversation]:
  """Returns the Conversation of each list of messages, which has an answer.

  All are rendered by two processes; text that looks like a special token is none, as in
  `chat.encode`. Raises Mistake as that does, for a template that writes a conversation
  otherwise when it goes on, and for one that ends no answer.
  """
  if tokenizer.chat_template is None:
    raise Mistake("the tokenizer has no chat template; wanted a model that chats")
  stops, requests = chat.stops(tokenizer), []
  for messages in several:
    messages = json.loads(json.dumps(messages))
    seam = chat.unused_char(json.dumps(messages, ensure_ascii=False))
    messages = chat.Splitter(tokenizer.special, seam).split(messages)
    places = [i for i, message in enumerate(messages) if message["role"] == ANSWERS]
    requests.append((seam, messages, places))
  wholes = _rendered(tokenizer, requests, 1, add_generation_prompt=False)
  prompts = _rendered(tokenizer, requests, 0, add_generation_prompt=True)
  encoded = []
  for number, (seam, _, places) in enumerate(requests, 1):
    turns = [(next(prompts), next(wholes)) for _ in places]
    _check(turns, number)
    encoded.append(_encoded(tokenizer, turns, seam, stops))
  return encoded


def _rendered(tokenizer, requests, more: int, **variables):
  """Returns an iterator of the texts up to every answer, with or without it."""
  parts = [m[: i + more] for _, m, places in requests for i in places]
  variables = tokenizer.special_tokens | variables
  return iter(chat.render_many(tokenizer.chat_template, parts, **variables))


def _check(turns, number: int):
  """Raises Mistake unless each text of a conversation begins as the one before it."""
  texts = [text for turn in turns for text in turn]
  for before, after in itertools.pairwise(texts):
    if not after.startswith(before):
      raise Mistake(
        f"the chat template writes conversation {number} otherwise when it goes on, so "
        "that nothing says which tokens are answers; wanted another template, or "
        "conversations of one answer"
      )


def _encoded(tokenizer, turns, seam: str, stops) -> Conversation:
  parts, written, end, start = [], [], 0, 0
  for before, after in turns:
    context = _ids(tokenizer, before[end:], seam)
    answer = _ids(tokenizer, after[len(before) :], seam)
    ends = np.flatnonzero(np.isin(answer, list(stops)))
    if not len(ends):
      raise Mistake(
        "the chat template puts no token behind an answer that ends a text; wanted one "
        "with the tokenizer's eos, or <|im_end|>, there"
      )
    start = sum(map(len, parts)) + len(context)
    parts += [context, answer]
    written += [np.zeros(len(context), bool), np.arange(len(answer)) <= ends[-1]]
    end = len(after)
  return Conversation(np.concatenate(parts), np.concatenate(written), start)


def _ids(tokenizer, text: str, seam: str) -> np.ndarray:
  parts = [tokenizer.marked(part) for part in text.split(seam)]
  return np.concatenate(parts).astype(np.int32)
