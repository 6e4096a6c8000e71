"""Chat: what the assistant writes in conversations, by the model's own template.

  cfg.task = dict(name="chat", train="jsonl:conversations.jsonl")

A record has `messages`, a list of {"role", "content"}, of one turn or more. The loss
counts the tokens of the assistant's answers and those that end them. A tuned model is
used like any chat model: `generate` and a server keep the conversation.
"""

import dataclasses

import jax
import numpy as np

from lm import tasks
from lm.data import pairs
from lm.data.packed import Packed
from lm.data.rows import pad_id
from lm.errors import Mistake, positive
from lm.generate import stream
from lm.generate.chat import answers as written
from lm.objectives.softmax import cross_entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(tasks.Task):
  """The answers in a column of conversations."""

  messages: str = "messages"  # the column with lists of {"role", "content"}
  answered: int = 100  # held-out conversations whose last answer the model writes
  max_tokens: int = 128  # of such an answer
  packs: bool = True  # several conversations share a row; set by the model's family

  objective = "next_token"
  converses = True

  def __post_init__(self):
    positive(self, "answered", "max_tokens")

  def fitted(self, traits) -> "Task":
    """Returns the task for a family; Mistake for one that continues no text."""
    if not traits.decodes or traits.source:
      raise Mistake("task.name='chat' wants a model that continues a text, a decoder")
    return dataclasses.replace(self, packs=traits.packs)

  def columns(self) -> dict[str, str]:
    return {"messages": self.messages}

  def texts(self, record: dict) -> list[str]:
    return [message["content"] for message in record["messages"]]

  def key(self, record: dict) -> str:
    """Returns the roles and the contents; Mistake for messages that have neither."""
    messages = record["messages"]
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
      shown = repr(messages)
      raise Mistake(
        f"{self.messages}={shown[:60]}{'...' if shown[60:] else ''}; wanted a list of "
        '{"role": TEXT, "content": TEXT}'
      )
    return " ".join(f"{message['role']} {message['content']}" for message in messages)

  def notes(self, splits) -> list[str]:
    """Returns a line for each split with conversations that have no answer."""
    lines = []
    for split in ("train", "heldout"):
      records = getattr(splits, split)
      count = sum(not _has_answer(record) for record in records)
      if count == len(records):
        raise Mistake(
          f"no conversation in split {split!r} of {self.train} has a message of "
          f"{written.ANSWERS!r}; wanted answers to learn to write"
        )
      if count:
        lines.append(
          f"{split}: {count:,} conversations have no answer and count nothing"
        )
    return lines

  def record(self, prompt: str) -> dict:
    return {"messages": [{"role": "user", "content": prompt}]}

  def layout(self, seq: int) -> dict:
    return pairs.layout({"T": seq}, packs=self.packs)

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns rows of the conversations with an answer that begins within `seq`."""
    chats = written.conversations(tokenizer, _messages(records))
    return self._rows(chats, tokenizer, seq)[0]

  def _rows(self, chats, tokenizer, seq: int) -> tuple[Packed, list[int]]:
    """Returns (the rows, the number among `chats` of every example in them)."""
    examples, numbers = [], []
    for number, chat in enumerate(chats):
      weights = chat.is_written[1 : seq + 1].astype(np.float32)
      if weights.any():
        tokens, targets = chat.ids[: len(weights)], chat.ids[1 : seq + 1]
        example = {"tokens_T": tokens, "targets_T": targets, "weights_T": weights}
        examples.append(example)
        numbers.append(number)
    options = dict(num_cut=sum(len(chat.ids) > seq + 1 for chat in chats))
    options |= dict(pad=pad_id(tokenizer))
    return Packed(examples, **self.layout(seq), **options), numbers

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"nats", "tokens"} of the given answers in each record.

    The first `answered` of them that fit also have {"text", "ended"} of the answer that
    the model writes to the last prompt, and whether it came to an end by itself.
    """
    answers = [{"nats": 0.0, "tokens": 0} for _ in records]
    own = [number for number, record in enumerate(records) if _has_answer(record)]
    chats = written.conversations(tokenizer, _messages(records))
    rows, numbers = self._rows(chats, tokenizer, seq)

    def nats(params, batch):
      variables, segments_BT = {"params": params}, batch.get("segments_BT")
      inputs = {} if segments_BT is None else {"segments_BT": segments_BT}
      x_BTD = model.apply(
        variables, batch["tokens_BT"], method="features", **inputs
      ).x_BTD

      def of_row(row):  # the logits of one row at a time: a vocabulary is long
        x_TD, targets_T = row
        logits_1TV = model.apply(variables, x_TD[None], method="readout")
        return cross_entropy(logits_1TV, targets_T[None])[0][0]

      return jax.lax.map(of_row, (x_BTD, batch["targets_BT"]))

    for example, row, place, nats_T in tasks.outputs(nats, params, rows):
      is_own_T = row.get("segments_T", place + 1) == place + 1
      counted_T = is_own_T & (row["weights_T"] > 0)
      sums = {"nats": float(nats_T[counted_T].sum()), "tokens": int(counted_T.sum())}
      answers[own[numbers[example]]] = sums
    prompts = {n: chat.ids[: chat.start] for n, chat in zip(own, chats, strict=True)}
    for number, facts in self._write(model, params, tokenizer, prompts):
      answers[number] |= facts
    return answers

  def _write(self, model, params, tokenizer, prompts: dict):
    """Yields (number, the answer to its prompt) of prompts, with as much room."""
    room = (model.config.context or 2**31) - self.max_tokens
    fitting = [number for number, ids in prompts.items() if len(ids) <= room]
    numbers = sorted(fitting[: self.answered], key=lambda n: len(prompts[n]))
    for start in range(0, len(numbers), tasks.BATCH):
      batch = numbers[start : start + tasks.BATCH]
      ids = [prompts[number] for number in batch]
      options = dict(max_tokens=self.max_tokens, temperature=0.0)
      pieces = stream.generate(model, params, tokenizer, ids, **options)
      for number, piece in zip(batch, pieces, strict=True):
        yield number, {"text": piece.text, "ended": piece.finish_reason == "stop"}

  def shown(self, answer: dict) -> str:
    return answer["text"]

  def score(self, answers, records) -> dict:
    """Returns nats per token of the answers, and the share of answers that end."""
    from lm.scores import intervals

    parts_RO = np.array([[a["nats"], a["tokens"]] for a in answers if a["tokens"]])
    ratio = lambda sums_O: sums_O[..., 0] / sums_O[..., 1]
    ended = [answer["ended"] for answer in answers if "ended" in answer]
    scores = {
      "nats_per_answer_token": float(ratio(parts_RO.sum(0))),
      "nats_per_answer_token_95": intervals.bootstrap(parts_RO, ratio),
      "answer_tokens": int(parts_RO[:, 1].sum()),
    }
    if ended:
      scores["ended"] = sum(ended) / len(ended)
      scores["ended_95"] = intervals.wilson(sum(ended), len(ended))
      scores["ended_of"] = len(ended)
    return scores


def _is_message(message) -> bool:
  return isinstance(message, dict) and all(
    isinstance(message.get(name), str) for name in ("role", "content")
  )


def _has_answer(record: dict) -> bool:
  return any(message["role"] == written.ANSWERS for message in record["messages"])


def _messages(records) -> list:
  return [record["messages"] for record in records if _has_answer(record)]
