"""BERT of Hugging Face, with its pretraining heads, another head, or none."""

from lm.stores.hf import task_heads
from lm.stores.hf.config import ACTIVATIONS, HfConfig, activation
from lm.stores.hf.mapping import layers, linear, norm, without_prefix
from lm.stores.hf.reshape import flat, rows, same, transposed, unused

MODEL_TYPES = ("bert",)
FAMILY, PREFIX = "encoder", "bert."
# Copies of the tied embedding, and the buffer 0, 1, 2...
IGNORED = r"^cls\.predictions\.decoder\.|position_ids$"
DEFAULTS = dict(hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=2)
NEXT_SENTENCE = "cls.seq_relationship"
# Our head -> the end of a tensor name that only this head has.
HEAD_TENSORS = {
  "tokens": "cls.predictions.transform.dense.weight",
  "next": f"{NEXT_SENTENCE}.weight",
  "classes": "classifier.weight",
  "labels": "classifier.weight",
  "span": f"{task_heads.ANSWER}.weight",
}
# Classes that have a pooler.
POOLED = ("Model", "ForPreTraining", "ForNextSentencePrediction")
POOLED += ("ForSequenceClassification",)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  return sizes(hf) | task_heads.fields(hf, HEAD_TENSORS, POOLED)


def sizes(hf: HfConfig) -> dict:
  """Returns the fields of the body."""
  hf = hf.with_defaults(DEFAULTS)
  hf.require(is_decoder=False, position_embedding_type="absolute")
  return dict(
    vocab=hf.size("vocab_size"),
    context=hf.size("max_position_embeddings"),
    width=hf.size("hidden_size"),
    layers=hf.size("num_hidden_layers"),
    heads=hf.size("num_attention_heads"),
    ff=hf.size("intermediate_size"),
    activation=activation(hf["hidden_act"], gated=False),
    eps=hf["layer_norm_eps"],
    types=hf.size("type_vocab_size"),
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return dict(
    model_type="bert",
    **task_heads.to_hf(fields, "Bert", POOLED),
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    hidden_size=fields["width"],
    num_hidden_layers=fields["layers"],
    num_attention_heads=fields["heads"],
    intermediate_size=fields["ff"],
    hidden_act=ACTIVATIONS[fields["activation"]],
    layer_norm_eps=fields["eps"],
    type_vocab_size=fields["types"],
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V, head = hf["vocab_size"], config(hf)["head"]
  next_sentence = linear("follows/w", NEXT_SENTENCE, transposed())
  all_rows = [
    *body(PREFIX, V),
    *layers(
      "",
      "",
      *linear("head/dense", "cls.predictions.transform.dense", transposed()),
      *norm("head/norm", "cls.predictions.transform.LayerNorm"),
      ("bias", "cls.predictions.bias", rows(V)),
      *present(next_sentence, hf.has_tensor(f"{NEXT_SENTENCE}.weight", True)),
      *task_heads.classifier(task_heads.ANSWER if head == "span" else "classifier"),
    ),
  ]
  if head == "none":
    all_rows = without_prefix(all_rows, PREFIX, hf.names or ())
  return with_gamma(all_rows) if hf.has_tensor("LayerNorm.gamma", False) else all_rows


def body(prefix: str, V: int) -> list:
  """Returns the rows of the body, which is the same under every head."""
  return [
    *layers(
      "",
      f"{prefix}embeddings.",
      ("embed/table", "word_embeddings.weight", rows(V)),
      ("positions/table", "position_embeddings.weight", same),
      ("types/table", "token_type_embeddings.weight", same),
      *norm("norm", "LayerNorm"),
    ),
    *layers(
      "blocks/layer/",
      f"{prefix}encoder.layer.{{}}.",
      *linear("attention/q", "attention.self.query", transposed(), flat),
      *linear("attention/k", "attention.self.key", transposed(), flat),
      *linear("attention/v", "attention.self.value", transposed(), flat),
      *linear("attention/o", "attention.output.dense", transposed(2)),
      *norm("attention_norm", "attention.output.LayerNorm"),
      *linear("ff/up", "intermediate.dense", transposed()),
      *linear("ff/down", "output.dense", transposed()),
      *norm("ff_norm", "output.LayerNorm"),
    ),
    *layers("", prefix, *linear("pooler/w", task_heads.POOLER, transposed())),
  ]


def with_gamma(rows: list) -> list:
  """Returns the rows with the names that the first published files give to norms."""
  names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
  renamed = []
  for row in rows:
    suffix = next((suffix for suffix in names if row.hf.endswith(suffix)), "")
    name = row.hf.removesuffix(suffix) + names.get(suffix, "")
    renamed.append(row._replace(hf=name))
  return renamed


def present(rows, is_present: bool) -> list:
  """Returns the rows; without tensor names where the checkpoint lacks the part."""
  if is_present:
    return rows
  return [(path, "", unused(0.0)) for path, _, _ in rows]
