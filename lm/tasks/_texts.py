"""One text, or two, as what a model with head="classes" reads: a base of tasks."""

import abc
import dataclasses

import numpy as np

from lm import tasks
from lm.data.clean import words
from lm.data.packed import Packed, cut
from lm.data.rows import pad_id
from lm.errors import Mistake


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfTexts(tasks.Task):
  """A task with a number for the texts in a column `text`, and perhaps in `pair`."""

  text: str = "text"  # the column with the text
  pair: str = ""  # the column with a second text, where there are two
  segment: str = ""  # "jieba": a space between the words of Chinese texts
  stopwords: str = ""  # "english" or "chinese": leave their commonest words out
  types: bool = False  # the model has vectors for the parts of a row: read from it

  NUMBER = ("label_", "int32")  # the number of an example, and its dtype

  def __post_init__(self):
    words.check("task.segment", self.segment, words.SEGMENTERS)
    words.check("task.stopwords", self.stopwords, words.STOPWORDS)

  @abc.abstractmethod
  def number(self, record: dict):
    """Returns the number of a record; 0 for one without a reference."""

  def columns(self) -> dict[str, str]:
    return {"text": self.text} | ({"pair": self.pair} if self.pair else {})

  def texts(self, record: dict) -> list[str]:
    texts = [record[name] for name in ("text", "pair") if name in record]
    return [self._prepared(text) for text in texts]

  def _prepared(self, text: str) -> str:
    """Returns what is read of a text; one of stop words alone stays whole."""
    text = words.segmented(text, self.segment)
    return words.without(text, self.stopwords).strip() or text

  def for_model(self, fields: dict) -> "tasks.Task":
    return dataclasses.replace(self, types=fields.get("types", 0) > 1)

  def record(self, prompt: str) -> dict:
    """Returns the record of a prompt; a tab is between the two texts of a pair."""
    if not self.pair:
      return {"text": prompt}
    text, _, pair = prompt.partition("\t")
    return {"text": text, "pair": pair}

  def layout(self, seq: int) -> dict:
    return self._layout(seq, types=self.types and bool(self.pair))

  def _layout(self, seq: int, *, types: bool) -> dict:
    keys = [("tokens_T", "int32"), *[("types_T", "int32")][:types], self.NUMBER]
    return dict(sizes={"T": seq}, dtypes=dict(keys))

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of records; one to be answered needs no reference."""
    examples, num_cut = [], 0
    for record in records:
      ids, types, is_cut = encoded(tokenizer, self.texts(record), seq)
      arrays = {"tokens_T": ids, "types_T": types, self.NUMBER[0]: self.number(record)}
      examples.append(arrays)
      num_cut += is_cut
    layout = self._layout(seq, types=self.types and "pair" in records[0])
    examples = [{key: x[key] for key in layout["dtypes"]} for x in examples]
    return Packed(examples, **layout, pad=pad_id(tokenizer), num_cut=num_cut)

  def outputs(self, function, model, params, rows) -> list:
    """Returns function(logits_BPC) of each record as numpy arrays, in their order."""

    step = tasks.bound(_classified, function, model)
    values = {
      example: value_PC[place]
      for example, _, place, value_PC in tasks.outputs(step, params, rows)
    }
    return [values[number] for number in range(len(values))]


def _classified(function, model, params, batch):
  """Returns function(logits_BPC) of a batch."""
  variables, num = {"params": params}, batch["weights_BP"].shape[1]
  names = ("types_BT", "segments_BT")
  inputs = {name: batch[name] for name in names if name in batch}
  features = model.apply(variables, batch["tokens_BT"], **inputs, method="features")
  inputs = dict(num=num, method="classify")
  return function(
    model.apply(variables, features.x_BTD, batch["segments_BT"], **inputs)
  )


def encoded(tokenizer, texts: list[str], seq: int):
  """Returns (ids, types, whether they were cut) of a text or two, `seq` ids at most.

  Of two the longer one is cut. A tokenizer that has no special token to put between
  them, a learnt one, gets its end of a text there.
  """
  for number, text in enumerate(texts, 1):
    if not text.strip():
      raise Mistake(f"text {number} of {len(texts)} is empty; wanted one to be read")
  if len(texts) == 1:
    ids = tokenizer.prompt(texts[0])
    return cut(ids, seq), np.zeros(min(len(ids), seq), np.int32), len(ids) > seq
  encoding = tokenizer.encoding(*texts)
  ids, types = np.array(encoding.ids), np.array(encoding.type_ids)
  part = np.array([-1 if part is None else part for part in encoding.sequence_ids])
  if -1 not in part[np.argmax(part == 0) : np.argmax(part == 1)]:
    middle = int(np.argmax(part == 1))
    ids, types, part = (
      np.insert(x, middle, value)
      for x, value in ((ids, tokenizer.eos), (types, 0), (part, -1))
    )
  sizes = [int(np.sum(part == number)) for number in (0, 1)]
  kept = _kept(*sizes, seq - (len(ids) - sum(sizes)))
  keep = np.ones(len(ids), bool)
  for number in (0, 1):
    keep[np.flatnonzero(part == number)[kept[number] :]] = False
  return ids[keep], types[keep], not keep.all()


def _kept(first: int, second: int, room: int) -> tuple[int, int]:
  """Returns how much stays of two lengths so that they fit: the longer one is cut."""
  short, long = sorted((first, second))
  if short + long > room:
    long = max(short, room - short)
  if short + long > room:
    short, long = room // 2, room - room // 2
  return (long, short) if first > second else (short, long)
