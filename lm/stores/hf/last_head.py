"""Reads and writes the output head of a decoder: tokens, or classes by the last one.

`transformers` has the classes of a text as `score`, a matrix without a bias that reads
the last token which is no padding.
"""

from lm.stores.hf.config import HfConfig
from lm.stores.hf.mapping import Row, row
from lm.stores.hf.reshape import transposed
from lm.stores.hf.task_heads import names_of

SCORE = "score.weight"
SUFFIX = "ForSequenceClassification"


def fields(hf: HfConfig) -> dict:
  """Returns our fields of the head: those that are not the defaults."""
  is_named = SUFFIX in str(hf.get("architectures"))
  if not hf.has_tensor(SCORE, is_named):
    return {}
  labels = hf.get("id2label")
  count = len(labels) if isinstance(labels, dict) else hf.size("num_labels", 2)
  return dict(head="classes", classes=count)


def to_hf(fields: dict, prefix: str, suffix: str) -> dict:
  """Returns the values of config.json for our head.

  `prefix` and `suffix` make the name of the class that predicts tokens.
  """
  if fields["head"] == "tokens":
    return dict(architectures=[prefix + suffix])
  names = [f"LABEL_{i}" for i in range(fields["classes"])]
  return dict(architectures=[prefix + SUFFIX]) | names_of(names)


def classifier() -> Row:
  """Returns the row of the classifier."""
  return row("classifier/w", SCORE, transposed())
