"""transformers' BERT as parameters of our encoder."""

from hf_tables import copied, rows, same, turned

from lm import lookup


def layer(*rows):
  return [
    (f"blocks/layer/{ours}", f"bert.encoder.layer.{{}}.{theirs}", reshape)
    for ours, theirs, reshape in rows
  ]


TABLE = (
  ("embed/table", "bert.embeddings.word_embeddings.weight", rows),
  ("places/table", "bert.embeddings.position_embeddings.weight", same),
  ("kinds/table", "bert.embeddings.token_type_embeddings.weight", same),
  ("norm/scale", "bert.embeddings.LayerNorm.weight", same),
  ("norm/bias", "bert.embeddings.LayerNorm.bias", same),
  *layer(
    ("attention/q", "attention.self.query.weight", turned),
    ("attention/q_bias", "attention.self.query.bias", same),
    ("attention/k", "attention.self.key.weight", turned),
    ("attention/k_bias", "attention.self.key.bias", same),
    ("attention/v", "attention.self.value.weight", turned),
    ("attention/v_bias", "attention.self.value.bias", same),
    ("attention/o", "attention.output.dense.weight", turned),
    ("attention/o_bias", "attention.output.dense.bias", same),
    ("attention_norm/scale", "attention.output.LayerNorm.weight", same),
    ("attention_norm/bias", "attention.output.LayerNorm.bias", same),
    ("ff/up", "intermediate.dense.weight", turned),
    ("ff/up_bias", "intermediate.dense.bias", same),
    ("ff/down", "output.dense.weight", turned),
    ("ff/down_bias", "output.dense.bias", same),
    ("ff_norm/scale", "output.LayerNorm.weight", same),
    ("ff_norm/bias", "output.LayerNorm.bias", same),
  ),
  ("head/dense", "cls.predictions.transform.dense.weight", turned),
  ("head/dense_bias", "cls.predictions.transform.dense.bias", same),
  ("head/norm/scale", "cls.predictions.transform.LayerNorm.weight", same),
  ("head/norm/bias", "cls.predictions.transform.LayerNorm.bias", same),
  ("bias", "cls.predictions.bias", rows),
  ("pooler/w", "bert.pooler.dense.weight", turned),
  ("pooler/w_bias", "bert.pooler.dense.bias", same),
  ("follows/w", "cls.seq_relationship.weight", turned),
  ("follows/w_bias", "cls.seq_relationship.bias", same),
)
SPARE = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")


def ours(theirs):
  """(model, params) of a BertForPreTraining or a BertForMaskedLM."""
  c = theirs.config
  model = lookup.model(
    "encoder",
    vocab=c.vocab_size,
    context=c.max_position_embeddings,
    width=c.hidden_size,
    layers=c.num_hidden_layers,
    heads=c.num_attention_heads,
    ff=c.intermediate_size,
    activation={"gelu_new": "gelu_tanh"}.get(c.hidden_act, c.hidden_act),
    eps=c.layer_norm_eps,
    types=c.type_vocab_size,
    pooler=theirs.bert.pooler is not None,
  )
  return model, copied(model, TABLE, theirs, SPARE)
