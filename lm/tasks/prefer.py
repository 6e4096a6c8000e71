"""Preference: pairs of answers to a prompt, of which people chose one.

  cfg.task = dict(name="prefer", train="jsonl:pairs.jsonl")
  cfg.init = dict(path=MODEL)  # and the reference, unless cfg.teacher is another one

A prompt and its answers are texts, or lists of messages with "role" and "content" for
a model with a chat template. The model writes text afterwards as it did before.
"""

import dataclasses

import numpy as np

from lm import tasks
from lm.data.packed import EXAMPLE, Packed
from lm.data.records import GROUP
from lm.data.rows import pad_id
from lm.errors import Mistake
from lm.generate import prompts
from lm.generate.chat import answers as chat_answers
from lm.objectives.dpo import log_probabilities
from lm.objectives.scoring import read
from lm.scores import pairs

SIDES = ("chosen", "rejected")
LOGITS_BYTES = 2**28  # of float32 at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(tasks.Task):
  """The better and the worse of two answers to a prompt, in three columns."""

  prompt: str = "prompt"  # the column with the prompt
  chosen: str = "chosen"  # the column with the better answer
  rejected: str = "rejected"  # the column with the worse one
  group: str = ""  # a column whose equal values are not split; by default the prompt's

  objective = "dpo"
  converses = True

  def columns(self) -> dict[str, str]:
    names = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
    return names | {GROUP: self.group or self.prompt}

  def texts(self, record: dict) -> list[str]:
    prompt = _text(record["prompt"])
    return [prompt + _text(record[side]) for side in SIDES if side in record]

  def distinct(self, record: dict) -> list[str]:
    return [_text(record[side]) for side in SIDES]

  def layout(self, seq: int) -> dict:
    dtypes = {"tokens_T": "int32", "targets_T": "int32", "weights_T": "float32"}
    return dict(sizes={"T": seq}, dtypes=dtypes | {EXAMPLE: "int32"})

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of records, both answers of a pair in one.

    Each answer has the prompt in front and at most half of `seq`; what is longer is
    cut. A pair whose prompt leaves no room for an answer is left out.
    """
    return self._packed(self._examples(records, tokenizer, seq), tokenizer, seq)

  def _examples(self, records, tokenizer, seq: int) -> list[tuple]:
    """Returns (arrays, whether they were cut) of each record; {} for a long prompt."""
    return [self._example(*pair, seq // 2) for pair in encoded(records, tokenizer)]

  def _packed(self, examples, tokenizer, seq: int) -> Packed:
    kept = [example for example, _ in examples if example]
    if not kept:
      raise Mistake(f"no prompt leaves room for an answer; make seq={seq} larger")
    return Packed(
      kept,
      **self.layout(seq),
      pad=pad_id(tokenizer),
      parts=len(SIDES),
      num_cut=sum(is_cut for _, is_cut in examples),
      num_left_out=len(examples) - len(kept),
    )

  def _example(self, prompt, answers, size: int) -> tuple[dict, bool]:
    if len(prompt) > size:
      return {}, False
    arrays = {key: [] for key in ("tokens_T", "targets_T", "weights_T", "segments_T")}
    for number, answer in enumerate(answers, 1):
      ids = np.concatenate([prompt, answer])[: size + 1]
      place = np.arange(1, len(ids))
      arrays["tokens_T"].append(ids[:-1])
      arrays["targets_T"].append(ids[1:])
      arrays["weights_T"].append((place >= len(prompt)).astype(np.float32))
      arrays["segments_T"].append(np.full(len(ids) - 1, number, np.int32))
    is_cut = max(map(len, answers)) + len(prompt) > size + 1
    return {key: np.concatenate(parts) for key, parts in arrays.items()}, is_cut

  def record(self, prompt: str) -> dict:
    return {"prompt": prompt, "chosen": "", "rejected": ""}

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"chosen", "rejected"}: the log-probabilities of both answers in nats.

    Beside them are their lengths, "chosen_tokens" and "rejected_tokens". A pair that
    was left out has {}.
    """
    examples = self._examples(records, tokenizer, seq)
    kept = [number for number, (example, _) in enumerate(examples) if example]
    rows, answers = self._packed(examples, tokenizer, seq), [{} for _ in records]

    def logps(params, batch):
      features = read(model.apply, params, batch, None, False)
      x_BTD = features.x_BTD
      return log_probabilities(model.apply, params, x_BTD, batch, LOGITS_BYTES)

    for example, row, place, sides in tasks.outputs(logps, params, rows):
      answer = answers[kept[example]]
      for number, (side, logp_P) in enumerate(zip(SIDES, sides, strict=True)):
        is_side_T = row["segments_T"] == 2 * place + number + 1
        answer[side] = float(logp_P[place])
        answer[f"{side}_tokens"] = int(row["weights_T"][is_side_T].sum())
    return answers

  def shown(self, answer: dict) -> str:
    """Returns a line for people: "chosen -12.3  rejected -15.0"."""
    return "  ".join(f"{side} {answer[side]:.4g}" for side in SIDES)

  def score(self, answers, records) -> dict:
    """Returns the shares of pairs whose chosen answer is likelier; see lm.scores.pairs.

    Once in all, and once per token.
    """
    kept = [answer for answer in answers if answer]
    logps_R2 = np.array([[answer[side] for side in SIDES] for answer in kept])
    tokens_R2 = np.array(
      [[answer[f"{side}_tokens"] for side in SIDES] for answer in kept]
    )
    scores = {}
    for name, values_R2 in (
      ("likelier", logps_R2),
      ("likelier_per_token", logps_R2 / np.maximum(tokens_R2, 1)),
    ):
      scores |= pairs.preferred(values_R2[:, 0] - values_R2[:, 1], name)
    return scores | {"pairs": len(kept), "left_out": len(answers) - len(kept)}

  def compared(self, answers, teacher_answers, records) -> dict:
    """Returns `score`, and against a reference the accuracy and the mean margin.

    The margin is by how many nats more than the reference a model prefers the chosen
    answer: its implicit reward without beta.
    """
    margins_R = [
      (answer["chosen"] - answer["rejected"]) - (other["chosen"] - other["rejected"])
      for answer, other in zip(answers, teacher_answers, strict=True)
      if answer
    ]
    scores = pairs.preferred(np.array(margins_R), "accuracy", "margin_nats")
    return scores | super().compared(answers, teacher_answers, records)


def encoded(records, tokenizer) -> list[tuple]:
  """Returns (ids of the prompt, [ids of each of its answers]) of each record.

  A text is encoded as `generate` does: white space at the end of a prompt is taken for
  the beginning of the answers, and each of these gets the token that ends a text.
  """
  chats = [number for number, r in enumerate(records) if not _is_text(r["prompt"])]
  turns = [
    [*records[number]["prompt"], *_messages(records[number][side])]
    for number in chats
    for side in SIDES
    if side in records[number]
  ]
  answered = iter(chat_answers.conversations(tokenizer, turns) if turns else ())
  pairs = []
  for record in records:
    sides = [side for side in SIDES if side in record]
    if _is_text(record["prompt"]):
      pairs.append(_encoded_text(record, sides, tokenizer))
    else:
      coded = [next(answered) for _ in sides]
      is_answer = [c.is_written & (np.arange(len(c.ids)) >= c.start) for c in coded]
      answers = [c.ids[own] for c, own in zip(coded, is_answer, strict=True)]
      pairs.append((coded[0].ids[: coded[0].start], answers))
  return pairs


def _encoded_text(record: dict, sides, tokenizer) -> tuple:
  prompt = record["prompt"].rstrip()
  space, end = record["prompt"][len(prompt) :], [tokenizer.eos]
  [ids] = prompts.encode(tokenizer, prompt)
  answers = [tokenizer.encode(space + _text(record[side])) for side in sides]
  if tokenizer.eos is not None:
    answers = [np.append(answer, end) for answer in answers]
  return ids, answers


def _is_text(value) -> bool:
  return isinstance(value, str)


def _messages(answer) -> list[dict]:
  """Returns an answer as one message at the end of a conversation."""
  return [{"role": "assistant", "content": answer}] if _is_text(answer) else answer


def _text(value) -> str:
  """Returns a text, or those of messages."""
  if _is_text(value):
    return value
  try:
    return "\n".join(message["content"] for message in value)
  except (TypeError, KeyError) as error:
    raise Mistake(
      f"{str(value)[:60]!r} is neither a text nor a list of messages; wanted messages "
      'such as {"role": "user", "content": "Hello"}'
    ) from error
