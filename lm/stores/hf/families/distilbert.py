"""DistilBERT of Hugging Face: a BERT without token types and without a pooler."""

from lm.stores.hf import task_heads
from lm.stores.hf.config import ACTIVATIONS, HfConfig, activation
from lm.stores.hf.mapping import layers, linear, norm, without_prefix
from lm.stores.hf.reshape import flat, rows, same, transposed

MODEL_TYPES = ("distilbert",)
FAMILY, PREFIX = "encoder", "distilbert."
IGNORED = r"^vocab_projector\.weight$|position_ids$"
DEFAULTS = dict(activation="gelu", sinusoidal_pos_embds=False)
HEAD_TENSORS = {
  "tokens": "vocab_transform.weight",
  "classes": "pre_classifier.weight",
  "labels": "classifier.weight",
  "span": f"{task_heads.ANSWER}.weight",
}


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  head_fields = task_heads.fields(hf, HEAD_TENSORS) | dict(pooler=False)
  return dict(
    vocab=hf.size("vocab_size"),
    context=hf.size("max_position_embeddings"),
    width=hf.size("dim"),
    layers=hf.size("n_layers"),
    heads=hf.size("n_heads"),
    ff=hf.size("hidden_dim"),
    activation=activation(hf["activation"], gated=False),
    eps=1e-12,
    types=0,
    hidden="relu" if head_fields["head"] == "classes" else "",
    **head_fields,
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return dict(
    model_type="distilbert",
    **task_heads.to_hf(fields, "DistilBert"),
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    dim=fields["width"],
    n_layers=fields["layers"],
    n_heads=fields["heads"],
    hidden_dim=fields["ff"],
    activation=ACTIVATIONS[fields["activation"]],
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V, head = hf["vocab_size"], config(hf)["head"]
  all_rows = [
    *layers(
      "",
      "distilbert.embeddings.",
      ("embed/table", "word_embeddings.weight", rows(V)),
      ("positions/table", "position_embeddings.weight", same),
      *norm("norm", "LayerNorm"),
    ),
    *layers(
      "blocks/layer/",
      "distilbert.transformer.layer.{}.",
      *linear("attention/q", "attention.q_lin", transposed(), flat),
      *linear("attention/k", "attention.k_lin", transposed(), flat),
      *linear("attention/v", "attention.v_lin", transposed(), flat),
      *linear("attention/o", "attention.out_lin", transposed(2)),
      *norm("attention_norm", "sa_layer_norm"),
      *linear("ff/up", "ffn.lin1", transposed()),
      *linear("ff/down", "ffn.lin2", transposed()),
      *norm("ff_norm", "output_layer_norm"),
    ),
    *layers(
      "",
      "",
      *linear("head/dense", "vocab_transform", transposed()),
      *norm("head/norm", "vocab_layer_norm"),
      ("bias", "vocab_projector.bias", rows(V)),
      *linear("hidden/w", "pre_classifier", transposed()),
      *task_heads.classifier(task_heads.ANSWER if head == "span" else "classifier"),
    ),
  ]
  if head != "none":
    return all_rows
  return without_prefix(all_rows, PREFIX, hf.names or ())
