"""BERT of Hugging Face, with the heads it was trained with, another one, or none."""

from lm.stores.hf import task_heads
from lm.stores.hf.config import ACTIVATIONS, Theirs, activation
from lm.stores.hf.engine import layers, linear, named_as, norm
from lm.stores.hf.reshape import flat, rows, same, turned, unused

FAMILY, PREFIX = "encoder", "bert."
# The same tensors under other names, and the numbers 0, 1, 2...
IGNORED = r"^cls\.predictions\.decoder\.|position_ids$"
DEFAULTS = dict(hidden_act="gelu", layer_norm_eps=1e-12, type_vocab_size=2)
FOLLOWS = "cls.seq_relationship"
MARKS = {
  "tokens": "cls.predictions.bias",
  "next": f"{FOLLOWS}.weight",
  "classes": "classifier.weight",
  "labels": "classifier.weight",
  "span": f"{task_heads.ANSWER}.weight",
}
POOLED = ("Model", "ForPreTraining", "ForNextSentencePrediction")
POOLED += ("ForSequenceClassification",)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  return sizes(theirs) | task_heads.fields(theirs, MARKS, POOLED)


def sizes(theirs: Theirs) -> dict:
  """Those that have nothing to do with a head."""
  theirs = theirs.over(DEFAULTS)
  theirs.needs(is_decoder=False, position_embedding_type="absolute")
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
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return dict(
    model_type="bert",
    **task_heads.told(fields, "Bert", POOLED),
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
  V, head = theirs["vocab_size"], config(theirs)["head"]
  follows = linear("follows/w", FOLLOWS, turned())
  found = [
    *body(PREFIX, V),
    *layers(
      "",
      "",
      *linear("head/dense", "cls.predictions.transform.dense", turned()),
      *norm("head/norm", "cls.predictions.transform.LayerNorm"),
      ("bias", MARKS["tokens"], rows(V)),
      *present(follows, theirs.has(f"{FOLLOWS}.weight", True)),
      *task_heads.classifier(task_heads.ANSWER if head == "span" else "classifier"),
    ),
  ]
  found = found if head != "none" else named_as(found, PREFIX, theirs.names or ())
  return older(found) if theirs.has("LayerNorm.gamma", False) else found


def body(prefix: str, V: int) -> list:
  """The rows of what is under every head."""
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
      *linear("attention/q", "attention.self.query", turned(), flat),
      *linear("attention/k", "attention.self.key", turned(), flat),
      *linear("attention/v", "attention.self.value", turned(), flat),
      *linear("attention/o", "attention.output.dense", turned(2)),
      *norm("attention_norm", "attention.output.LayerNorm"),
      *linear("ff/up", "intermediate.dense", turned()),
      *linear("ff/down", "output.dense", turned()),
      *norm("ff_norm", "output.LayerNorm"),
    ),
    *layers("", prefix, *linear("pooler/w", task_heads.POOLER, turned())),
  ]


def older(rows: list) -> list:
  """The rows; norms under the names that the first published files have for them."""
  names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
  found = []
  for each in rows:
    end = next((end for end in names if each.theirs.endswith(end)), "")
    name = each.theirs.removesuffix(end) + names.get(end, "")
    found.append(each._replace(theirs=name))
  return found


def present(rows, there: bool) -> list:
  """The rows; without names of theirs where the file has no such part."""
  if there:
    return rows
  return [(ours, "", unused(0.0)) for ours, _, _ in rows]
