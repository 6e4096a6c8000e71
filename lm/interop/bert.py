"""BERT of Hugging Face, with the heads it was trained with or without them."""

from lm.interop.engine import layers, linear, norm
from lm.interop.reshape import flat, rows, same, turned, unused
from lm.interop.theirs import ACTIVATIONS, Theirs, activation

FAMILY, PREFIX = "encoder", "bert."
# The same tensors under other names, and the numbers 0, 1, 2...
IGNORED = r"^cls\.predictions\.decoder\.|position_ids$"
DEFAULTS = dict(hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=2)
POOLER, READOUT = "pooler.dense.weight", "cls.predictions.bias"
FOLLOWS = "cls.seq_relationship.weight"


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  theirs.needs(is_decoder=False, position_embedding_type="absolute")
  trained = "BertForPreTraining" in theirs.get("architectures", ())
  return dict(
    vocab=theirs.size("vocab_size"),
    context=theirs.size("max_position_embeddings"),
    width=theirs.size("hidden_size"),
    layers=theirs.size("num_hidden_layers"),
    heads=theirs.size("num_attention_heads"),
    ff=theirs.size("intermediate_size"),
    activation=activation(theirs["hidden_act"], gated=False),
    eps=theirs["layer_norm_eps"],
    types=theirs.size("type_vocab_size"),
    pooler=theirs.has(POOLER, trained),
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  kind = "BertForPreTraining" if fields["pooler"] else "BertForMaskedLM"
  return dict(
    model_type="bert",
    architectures=[kind],
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


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  head = [
    *linear("head/dense", "cls.predictions.transform.dense", turned()),
    *norm("head/norm", "cls.predictions.transform.LayerNorm"),
    ("bias", READOUT, rows(V)),
  ]
  follows = linear("follows/w", "cls.seq_relationship", turned())
  return [
    *layers(
      "",
      "bert.embeddings.",
      ("embed/table", "word_embeddings.weight", rows(V)),
      ("places/table", "position_embeddings.weight", same),
      ("kinds/table", "token_type_embeddings.weight", same),
      *norm("norm", "LayerNorm"),
    ),
    *layers(
      "blocks/layer/",
      "bert.encoder.layer.{}.",
      *linear("attention/q", "attention.self.query", turned(), flat),
      *linear("attention/k", "attention.self.key", turned(), flat),
      *linear("attention/v", "attention.self.value", turned(), flat),
      *linear("attention/o", "attention.output.dense", turned(2)),
      *norm("attention_norm", "attention.output.LayerNorm"),
      *linear("ff/up", "intermediate.dense", turned()),
      *linear("ff/down", "output.dense", turned()),
      *norm("ff_norm", "output.LayerNorm"),
    ),
    *layers("", "bert.", *linear("pooler/w", "pooler.dense", turned())),
    *layers("", "", *present(head, theirs.has(READOUT, True))),
    *layers("", "", *present(follows, theirs.has(FOLLOWS, True))),
  ]


def present(rows, there: bool) -> list:
  """The rows; without names of theirs where the file has no such part."""
  if there:
    return rows
  begins = lambda ours: unused(float(ours.endswith("scale")))
  return [(ours, "", begins(ours)) for ours, _, _ in rows]
