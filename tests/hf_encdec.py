"""transformers' T5 as parameters of our encoder-decoder."""

from hf_tables import columns, copied, rows, same, turned

from lm import lookup

BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def layer(ours, theirs, *rows):
  return [
    (f"{ours}/layer/{name}", f"{theirs}.block.{{}}.layer.{their_name}.weight", reshape)
    for name, their_name, reshape in rows
  ]


def attention(ours, theirs):
  return [(f"{ours}/{x}", f"{theirs}.{x}", turned) for x in "qkvo"]


def feed(n):
  return (
    ("ff_norm/scale", f"{n}.layer_norm", same),
    ("ff/gate", f"{n}.DenseReluDense.wi_0", turned),
    ("ff/up", f"{n}.DenseReluDense.wi_1", turned),
    ("ff/down", f"{n}.DenseReluDense.wo", turned),
  )


TABLE = (
  ("embed/table", "shared.weight", rows),
  ("head/table", "lm_head.weight", columns),
  ("source_distances/table", f"encoder.{BIAS}", same),
  ("distances/table", f"decoder.{BIAS}", same),
  ("source_norm/scale", "encoder.final_layer_norm.weight", same),
  ("norm/scale", "decoder.final_layer_norm.weight", same),
  *layer(
    "source_blocks",
    "encoder",
    ("attention_norm/scale", "0.layer_norm", same),
    *attention("attention", "0.SelfAttention"),
    *feed(1),
  ),
  *layer(
    "blocks",
    "decoder",
    ("attention_norm/scale", "0.layer_norm", same),
    *attention("attention", "0.SelfAttention"),
    ("cross_norm/scale", "1.layer_norm", same),
    *attention("cross", "1.EncDecAttention"),
    *feed(2),
  ),
)
SPARE = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def ours(theirs, **fields):
  """(model, params) of a T5ForConditionalGeneration."""
  c = theirs.config
  tied = (
    c.scale_decoder_outputs
  )  # tie_word_embeddings is always True, whatever was asked
  gated = c.feed_forward_proj.startswith("gated")
  known = dict(
    vocab=c.vocab_size,
    width=c.d_model,
    layers=c.num_decoder_layers,
    source_layers=c.num_layers,
    heads=c.num_heads,
    head_size=c.d_kv,
    ff=c.d_ff,
    activation="geglu" if gated else "relu",
    tied=tied,
    buckets=c.relative_attention_num_buckets,
    reach=c.relative_attention_max_distance,
    eps=c.layer_norm_epsilon,
  )
  model = lookup.model("encdec", **(known | fields))
  # Without a gate, what comes up has another name.
  swap = lambda name: name if gated else name.replace("wi_1", "wi")
  table = [(ours, swap(theirs), reshape) for ours, theirs, reshape in TABLE]
  spare = SPARE + (("lm_head.weight",) if tied else ())
  return model, copied(model, table, theirs, spare)
