"""RoBERTa of Hugging Face, and XLM-R: a BERT whose rows begin at a later place.

The first rows of its table of positions are for padding and for nothing, as those who
trained it had them; ours has them too, and reads those behind.
"""

from lm.stores.hf import task_heads
from lm.stores.hf.config import Theirs
from lm.stores.hf.engine import layers, linear, named_as, norm
from lm.stores.hf.families import bert
from lm.stores.hf.reshape import rows, turned

FAMILY, PREFIX = "encoder", "roberta."
IGNORED = r"^lm_head\.decoder\.|position_ids$"
MARKS = {
  "tokens": "lm_head.bias",
  "classes": "classifier.out_proj.weight",
  "labels": "classifier.weight",
  "span": f"{task_heads.ANSWER}.weight",
}
POOLED = ("Model",)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over({"pad_token_id": 1})
  sizes, said = bert.sizes(theirs), task_heads.fields(theirs, MARKS, POOLED)
  first = theirs.size("pad_token_id") + 1
  return sizes | dict(
    context=sizes["context"] - first,
    first_position=first,
    hidden="tanh" if said["head"] == "classes" else "",
    **said,
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return bert.theirs(fields) | dict(
    model_type="roberta",
    **task_heads.told(fields, "Roberta", POOLED),
    max_position_embeddings=fields["context"] + fields["first_position"],
    pad_token_id=fields["first_position"] - 1,
  )


def table(theirs: Theirs) -> list:
  V, head = theirs["vocab_size"], config(theirs)["head"]
  names = {"span": task_heads.ANSWER, "classes": "classifier.out_proj"}
  found = [
    *bert.body(PREFIX, V),
    *layers(
      "",
      "",
      *linear("head/dense", "lm_head.dense", turned()),
      *norm("head/norm", "lm_head.layer_norm"),
      ("bias", MARKS["tokens"], rows(V)),
      *bert.present(linear("follows/w", "", turned()), there=False),
      *linear("hidden/w", "classifier.dense", turned()),
      *task_heads.classifier(names.get(head, "classifier")),
    ),
  ]
  return found if head != "none" else named_as(found, PREFIX, theirs.names or ())
