"""RoBERTa of Hugging Face, CamemBERT and XLM-R: a BERT with an offset in its positions.

The first rows of the table of positions are unused (fairseq counts from pad + 1). Ours
has the same table and starts at `first_place`.
"""

from lm.stores.hf import task_heads
from lm.stores.hf.config import HfConfig
from lm.stores.hf.families import bert
from lm.stores.hf.mapping import layers, linear, norm, without_prefix
from lm.stores.hf.reshape import rows, transposed

MODEL_TYPES = ("roberta", "camembert", "xlm-roberta")
FAMILY, PREFIX = "encoder", "roberta."
IGNORED = r"^lm_head\.decoder\.|position_ids$"
HEAD_TENSORS = {
  "tokens": "lm_head.dense.weight",
  "classes": "classifier.out_proj.weight",
  "labels": "classifier.weight",
  "span": f"{task_heads.ANSWER}.weight",
}
POOLED = ("Model",)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults({"pad_token_id": 1})
  sizes, head_fields = bert.sizes(hf), task_heads.fields(hf, HEAD_TENSORS, POOLED)
  first = hf.size("pad_token_id") + 1
  return sizes | dict(
    context=sizes["context"] - first,
    first_position=first,
    hidden="tanh" if head_fields["head"] == "classes" else "",
    **head_fields,
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return bert.to_hf(fields) | dict(
    model_type="roberta",
    **task_heads.to_hf(fields, "Roberta", POOLED),
    max_position_embeddings=fields["context"] + fields["first_position"],
    pad_token_id=fields["first_position"] - 1,
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V, head = hf["vocab_size"], config(hf)["head"]
  names = {"span": task_heads.ANSWER, "classes": "classifier.out_proj"}
  all_rows = [
    *bert.body(PREFIX, V),
    *layers(
      "",
      "",
      *linear("head/dense", "lm_head.dense", transposed()),
      *norm("head/norm", "lm_head.layer_norm"),
      ("bias", "lm_head.bias", rows(V)),
      *bert.present(linear("follows/w", "", transposed()), is_present=False),
      *linear("hidden/w", "classifier.dense", transposed()),
      *task_heads.classifier(names.get(head, "classifier")),
    ),
  ]
  if head != "none":
    return all_rows
  return without_prefix(all_rows, PREFIX, hf.names or ())
