"""DistilBERT of Hugging Face: a BERT without kinds of segments and without a pooler."""

from lm.stores.hf import task_heads
from lm.stores.hf.config import ACTIVATIONS, Theirs, activation
from lm.stores.hf.engine import layers, linear, named_as, norm
from lm.stores.hf.reshape import flat, rows, same, turned

FAMILY, PREFIX = "encoder", "distilbert."
IGNORED = r"^vocab_projector\.weight$|position_ids$"
DEFAULTS = dict(activation="gelu", sinusoidal_pos_embds=False)
MARKS = {
  "tokens": "vocab_projector.bias",
  "classes": "pre_classifier.weight",
  "labels": "classifier.weight",
  "span": f"{task_heads.ANSWER}.weight",
}


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  said = task_heads.fields(theirs, MARKS) | dict(pooler=False)
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
    hidden="relu" if said["head"] == "classes" else "",
    **said,
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return dict(
    model_type="distilbert",
    **task_heads.told(fields, "DistilBert"),
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    dim=fields["width"],
    n_layers=fields["layers"],
    n_heads=fields["heads"],
    hidden_dim=fields["ff"],
    activation=ACTIVATIONS[fields["activation"]],
  )


def table(theirs: Theirs) -> list:
  V, head = theirs["vocab_size"], config(theirs)["head"]
  found = [
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
      *linear("attention/q", "attention.q_lin", turned(), flat),
      *linear("attention/k", "attention.k_lin", turned(), flat),
      *linear("attention/v", "attention.v_lin", turned(), flat),
      *linear("attention/o", "attention.out_lin", turned(2)),
      *norm("attention_norm", "sa_layer_norm"),
      *linear("ff/up", "ffn.lin1", turned()),
      *linear("ff/down", "ffn.lin2", turned()),
      *norm("ff_norm", "output_layer_norm"),
    ),
    *layers(
      "",
      "",
      *linear("head/dense", "vocab_transform", turned()),
      *norm("head/norm", "vocab_layer_norm"),
      ("bias", MARKS["tokens"], rows(V)),
      *linear("hidden/w", "pre_classifier", turned()),
      *task_heads.classifier(task_heads.ANSWER if head == "span" else "classifier"),
    ),
  ]
  return found if head != "none" else named_as(found, PREFIX, theirs.names or ())
