"""Reward models: one number for an answer, learnt from pairs of which people chose one.

  cfg.task = dict(name="reward", train="jsonl:pairs.jsonl")

The records are those of lm.tasks.prefer. The number is the one output of the head
"classes": at the last token of a decoder or an LSTM, at the first one of an encoder.
"""

import dataclasses

import numpy as np

from lm import tasks
from lm.data.packed import Packed, cut
from lm.objectives.reward import rewards
from lm.objectives.scoring import read
from lm.scores import pairs
from lm.tasks import prefer
from lm.tasks.prefer import SIDES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(prefer.Task):
  """A reward for answers, higher for the better one of two."""

  margin: str = ""  # a column with how far the reward of the better one should be above

  objective = "reward"
  converses = False

  def columns(self) -> dict[str, str]:
    return super().columns() | ({"margin": self.margin} if self.margin else {})

  def fields(self) -> dict:
    """Returns the fields of a model with one output."""
    return {"head": "classes", "classes": 1}

  def layout(self, seq: int) -> dict:
    dtypes = {"tokens_T": "int32", "margin_": "float32"}
    return dict(sizes={"T": seq}, dtypes=dtypes)

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of records, both answers of a pair in one.

    What is longer than half of `seq` is cut and keeps its last token.
    """
    return super().rows(records, tokenizer, seq=seq)

  def _examples(self, records, tokenizer, seq: int) -> list[tuple]:
    coded = prefer.encoded(records, tokenizer)
    return [
      self._rewarded(pair, float(record.get("margin", 0)), seq // len(pair[1]))
      for pair, record in zip(coded, records, strict=True)
    ]

  def _rewarded(self, pair, margin: float, size: int) -> tuple[dict, bool]:
    prompt, answers = pair
    if len(prompt) >= size:
      return {}, False
    whole = [np.concatenate([prompt, answer]) for answer in answers]
    sides = [cut(ids, size) for ids in whole]
    numbers = [np.full(len(ids), number) for number, ids in enumerate(sides, 1)]
    arrays = dict(tokens_T=np.concatenate(sides), segments_T=np.concatenate(numbers))
    return arrays | {"margin_": margin}, max(map(len, whole)) > size

  def record(self, prompt: str) -> dict:
    """Returns the record of a text without a prompt, of which the reward is wanted."""
    return {"prompt": "", "chosen": prompt}

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"chosen", "rejected"}: the rewards of both answers.

    A record without a rejected answer has one reward, one that was left out has {}.
    """
    examples = self._examples(records, tokenizer, seq)
    kept = [number for number, (example, _) in enumerate(examples) if example]
    rows, answers = self._packed(examples, tokenizer, seq), [{} for _ in records]

    def of_batch(params, batch):
      x_BTD = read(model.apply, params, batch, None, False).x_BTD
      return rewards(model.apply, params, x_BTD, batch)

    for example, _, place, reward_O in tasks.outputs(of_batch, params, rows):
      sides = [side for side in SIDES if side in records[kept[example]]]
      values = reward_O[2 * place : 2 * place + len(sides)]
      answers[kept[example]] = dict(zip(sides, map(float, values), strict=True))
    return answers

  def shown(self, answer: dict) -> str:
    """Returns a line for people: "reward 1.25"."""
    return f"reward {answer['chosen']:.4g}" if answer else "too long for a reward"

  def score(self, answers, records) -> dict:
    """Returns the share of pairs whose chosen answer has the higher reward.

    And the mean difference of the two; see lm.scores.pairs.
    """
    kept = [answer for answer in answers if answer]
    difference_R = [answer["chosen"] - answer["rejected"] for answer in kept]
    scores = pairs.preferred(difference_R, "accuracy", "margin")
    return scores | {"pairs": len(kept), "left_out": len(answers) - len(kept)}
