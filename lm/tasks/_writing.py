"""The part that tasks share whose answer is a text, written by beam search."""

import dataclasses

from lm import tasks
from lm.data import pairs
from lm.data.packed import Packed, cut
from lm.errors import Mistake, positive
from lm.generate import stream
from lm.log.progress import progress

BATCH = 32  # texts at a time, of about the same length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing(tasks.Task):
  """A text for another text: what they are is up to the task.

  An encoder-decoder reads the text by its encoder. A decoder goes on from it, with what
  `prompt` has behind it in between.
  """

  prompt: str = ""  # around what is read: {text}, for a decoder by default {text}\n
  max_tokens: int = 64  # of an answer, its end included; a longer target is cut
  targets: int = 0  # positions of a row for targets, of an encoder-decoder; 0: as seq
  beams: int = 4  # continuations that are followed at a time; 1 is greedy
  length_penalty: float = 1.0  # see lm.generate.beam; above 0 favours long answers
  encoder: bool = False  # the text is read by an encoder; set by the model's family
  packs: bool = True  # several pairs share a row; set by the model's family

  objective = "seq2seq"
  names = ("source", "target")  # our columns: of what is read, and of what is written

  def __post_init__(self):
    positive(self, "max_tokens", "beams")
    if self.prompt and self.prompt.count("{text}") != 1:
      raise Mistake(f"task.prompt={self.prompt!r}; wanted {{text}} in it, once")

  def fitted(self, traits) -> "Writing":
    """Returns the task for a family; Mistake for one that writes no text."""
    if not traits.decodes:
      raise Mistake(
        "task.name: the answer is a text, and the model's family writes none; wanted a "
        "decoder or an encoder-decoder, such as encdec"
      )
    return dataclasses.replace(self, encoder=traits.source, packs=traits.packs)

  def texts(self, record: dict) -> list[str]:
    return [record[name] for name in self.names if name in record]

  def key(self, record: dict) -> str:
    return record[self.names[0]]

  def record(self, prompt: str) -> dict:
    return {self.names[0]: prompt}

  def length(self, tokenizer, record: dict) -> int:
    """Returns the positions of what is read; of a decoder, and of an answer."""
    ids, end = self._read(tokenizer, record)
    return len(ids) + len(end) + (0 if self.encoder else self.max_tokens)

  def layout(self, seq: int) -> dict:
    """Raises Mistake for a row that has no room for an answer."""
    room = (self.targets or seq) if self.encoder else seq - 1
    if self.max_tokens > room:
      name = "task.targets" if self.encoder and self.targets else "seq"
      raise Mistake(
        f"task.max_tokens={self.max_tokens}, and a row has room for {room}; make "
        f"{name} larger or task.max_tokens smaller"
      )
    sizes = {"S": seq, "T": room} if self.encoder else {"T": seq}
    return pairs.layout(sizes, packs=self.packs)

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    parts = [self._read(tokenizer, record) for record in records]
    targets = [pairs.ended(tokenizer, record[self.names[1]]) for record in records]
    room, most = self._room(seq), self.max_tokens
    num_cut = sum(
      len(ids) + len(end) > room or len(target) > most
      for (ids, end), target in zip(parts, targets, strict=True)
    )
    read = [pairs.joined(ids, end, room) for ids, end in parts]
    targets = [cut(target, most) for target in targets]
    return pairs.rows(read, targets, tokenizer, **self.layout(seq), num_cut=num_cut)

  def _read(self, tokenizer, record: dict) -> tuple:
    """Returns (the ids of a text to read, those behind them)."""
    prompt = self.prompt or ("{text}" if self.encoder else "{text}\n")
    head, _, tail = prompt.partition("{text}")
    head += record[self.names[0]]
    if self.encoder:
      return pairs.source(tokenizer, head + tail)
    return pairs.before(tokenizer, head, tail)

  def _room(self, seq: int) -> int:
    """Returns the most positions of what is read in rows of `seq`."""
    return seq if self.encoder else seq - self.max_tokens

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"text", "score", "finish_reason"} of the best beam for each record."""
    room = self._room(seq)
    read = [pairs.joined(*self._read(tokenizer, record), room) for record in records]
    order = sorted(range(len(read)), key=lambda number: len(read[number]))
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    batches = progress(parts, total=len(parts), unit="batch") if parts[1:] else parts
    options = dict(beams=self.beams, length_penalty=self.length_penalty)
    answers = {}
    for numbers in batches:
      batch = [read[number] for number in numbers]
      limit = dict(max_tokens=self.max_tokens)
      pieces = stream.search(model, params, tokenizer, batch, **limit, **options)
      for number, piece in zip(numbers, pieces, strict=True):
        facts = {"score": piece.score, "finish_reason": piece.finish_reason}
        answers[number] = {"text": piece.text.strip()} | facts
    return [answers[number] for number in range(len(answers))]

  def shown(self, answer: dict) -> str:
    return answer["text"]
