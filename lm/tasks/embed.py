"""Embeddings of sentences, learnt from pairs of texts that mean the same.

  cfg.task = dict(name="embed", train="wikipedia:en", text="description", pair="text")

A text's embedding is the mean of its tokens' vectors, of length one, as lm.embed has
it. Other pairs of the batch are what a text is told from: more of them teach more.
"""

import dataclasses

import numpy as np

from lm import tasks
from lm.data.packed import Packed, cut
from lm.data.records import normal
from lm.data.rows import pad_id
from lm.data.sources._records import hash64
from lm.generate.embed import embed
from lm.scores import numbers, retrieval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(tasks.Task):
  """The pairs of texts in the columns `text` and `pair`."""

  text: str = "text"  # the column with the text
  pair: str = "pair"  # the column with the text that belongs to it
  value: str = ""  # a column with how similar they are, to be compared with cosines

  objective = "contrastive"

  def columns(self) -> dict[str, str]:
    columns = {"text": self.text, "pair": self.pair}
    return columns | ({"score": self.value} if self.value else {})

  def texts(self, record: dict) -> list[str]:
    return [record["text"], *([record["pair"]] if "pair" in record else [])]

  def fields(self) -> dict:
    """Returns the fields of a model without an output head."""
    return {"head": "none"}

  def layout(self, seq: int) -> dict:
    keys = ("tokens_T", "segments_T", "text_", "pair_")
    return dict(sizes={"T": seq}, dtypes=dict.fromkeys(keys, "int32"))

  def rows(self, records, tokenizer, *, seq: int) -> Packed:
    """Returns the rows of pairs; each text has half of a row at most."""
    examples, num_cut = [], 0
    for record in records:
      ids = [tokenizer.prompt(text) for text in self.texts(record)]
      parts = [cut(x, seq // 2) for x in ids]
      numbers = [np.full(len(x), number) for number, x in enumerate(parts, 1)]
      text, pair = (hash64(normal(x).encode()) >> 33 for x in self.texts(record))
      arrays = dict(tokens_T=np.concatenate(parts), segments_T=np.concatenate(numbers))
      examples.append(arrays | {"text_": text, "pair_": pair})
      num_cut += max(map(len, ids)) > seq // 2
    options = dict(pad=pad_id(tokenizer), num_cut=num_cut, parts=2)
    return Packed(examples, **self.layout(seq), **options)

  def answers(self, model, params, tokenizer, records, *, seq: int) -> list[dict]:
    """Returns {"embedding"}, and of a pair {"pair_embedding", "similarity"}."""
    options = dict(pooling="mean", max_tokens=max(1, seq // 2))
    texts = [text for record in records for text in self.texts(record)]
    vectors = iter(embed(model, params, tokenizer, texts, **options))
    answers = []
    for record in records:
      x_D = next(vectors)
      answers.append({"embedding": x_D.tolist()})
      if "pair" in record:
        y_D = next(vectors)
        answers[-1] |= {"pair_embedding": y_D.tolist(), "similarity": float(x_D @ y_D)}
    return answers

  def length(self, tokenizer, record: dict) -> int:
    # Each text has half of a row.
    return 2 * super().length(tokenizer, record)

  def record(self, prompt: str) -> dict:
    """Returns the record of a prompt: a text, or two with a tab between them."""
    text, _, pair = prompt.partition("\t")
    return {"text": text} | ({"pair": pair} if pair else {})

  def shown(self, answer: dict) -> str:
    if "similarity" in answer:
      return f"{answer['similarity']:.3f}"
    return " ".join(f"{x:.4f}" for x in answer["embedding"])

  def score(self, answers, records) -> dict:
    """Returns how often a text's own pair is the nearest; see lm.scores.retrieval.

    With `value`, also the correlations of cosines with it.
    """
    x_RD, y_RD = (
      np.array([answer[key] for answer in answers])
      for key in ("embedding", "pair_embedding")
    )
    pairs = np.array([normal(record["pair"]) for record in records])
    scores = retrieval.retrieval(x_RD @ y_RD.T, pairs[:, None] == pairs)
    if self.value:
      actual_R = np.array([float(record["score"]) for record in records])
      cosine_R = np.sum(x_RD * y_RD, axis=1)
      scores |= numbers.correlations(actual_R, cosine_R)
    return scores
