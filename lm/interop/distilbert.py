"""DistilBERT of Hugging Face: a BERT without kinds of segments and without a pooler."""

from lm.interop.bert import present
from lm.interop.engine import layers, linear, norm
from lm.interop.reshape import flat, rows, same, turned
from lm.interop.theirs import ACTIVATIONS, Theirs, activation

FAMILY, PREFIX = "encoder", "distilbert."
IGNORED = r"^vocab_projector\.weight$|position_ids$"
DEFAULTS = dict(activation="gelu", sinusoidal_pos_embds=False)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  return dict(
    vocab=theirs.size("vocab_size"),
    context=theirs.size("max_position_embeddings"),
    width=theirs.size("dim"),
    layers=theirs.size("n_layers"),
    heads=theirs.size("n_heads"),
    ff=theirs.size("hidden_dim"),
    activation=activation(theirs["activation"], gated=False),
    eps=1e-12,
    types=0,
    pooler=False,
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return dict(
    model_type="distilbert",
    architectures=["DistilBertForMaskedLM"],
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    dim=fields["width"],
    n_layers=fields["layers"],
    n_heads=fields["heads"],
    hidden_dim=fields["ff"],
    activation=ACTIVATIONS[fields["activation"]],
  )


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  head = [
    *linear("head/dense", "vocab_transform", turned()),
    *norm("head/norm", "vocab_layer_norm"),
    ("bias", "vocab_projector.bias", rows(V)),
  ]
  return [
    *layers(
      "",
      "distilbert.embeddings.",
      ("embed/table", "word_embeddings.weight", rows(V)),
      ("places/table", "position_embeddings.weight", same),
      *norm("norm", "LayerNorm"),
    ),
    *layers(
      "blocks/layer/",
      "distilbert.transformer.layer.{}.",
      *linear("attention/q", "attention.q_lin", turned(), flat),
      *linear("attention/k", "attention.k_lin", turned(), flat),
      *linear("attention/v", "attention.v_lin", turned(), flat),
      *linear("attention/o", "attention.out_lin", turned(2)),
      *norm("attention_norm", "sa_layer_norm"),
      *linear("ff/up", "ffn.lin1", turned()),
      *linear("ff/down", "ffn.lin2", turned()),
      *norm("ff_norm", "output_layer_norm"),
    ),
    *layers("", "", *present(head, theirs.has("vocab_projector.bias", True))),
  ]
