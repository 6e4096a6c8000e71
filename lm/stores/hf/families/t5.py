"""T5 of Hugging Face, v1.0 and v1.1 (Flan-T5 too)."""

from lm.errors import Mistake
from lm.stores.hf.config import Theirs
from lm.stores.hf.engine import layers, row
from lm.stores.hf.reshape import columns, rows, same, turned

FAMILY, PREFIX = "encdec", ""
# The input table under other names; distances to the source, which are not used.
IGNORED = (
  r"^(en|de)coder\.embed_tokens\.weight$|EncDecAttention\.relative_attention_bias\."
)
DEFAULTS = dict(
  feed_forward_proj="relu",
  layer_norm_epsilon=1e-6,
  relative_attention_num_buckets=32,
  relative_attention_max_distance=128,
  tie_word_embeddings=True,
)
FEEDS = {"relu": "relu", "gated-gelu": "geglu"}
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  kind = theirs["feed_forward_proj"]
  if kind not in FEEDS:
    raise Mistake(
      f"feed_forward_proj={kind!r} in config.json; known: {', '.join(FEEDS)}"
    )
  layers = theirs.size("num_layers")
  return dict(
    vocab=theirs.size("vocab_size"),
    width=theirs.size("d_model"),
    layers=theirs.size("num_decoder_layers", layers),
    source_layers=layers,
    heads=theirs.size("num_heads"),
    head_size=theirs.size("d_kv"),
    ff=theirs.size("d_ff"),
    activation=FEEDS[kind],
    # Later files say that all is tied; whether it was is in the scale of the readout.
    tied=theirs.get("scale_decoder_outputs", theirs["tie_word_embeddings"]),
    buckets=theirs.size("relative_attention_num_buckets"),
    reach=theirs.size("relative_attention_max_distance"),
    eps=theirs["layer_norm_epsilon"],
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  kinds = {ours: kind for kind, ours in FEEDS.items()}
  return dict(
    model_type="t5",
    architectures=["T5ForConditionalGeneration"],
    is_encoder_decoder=True,
    vocab_size=fields["vocab"],
    d_model=fields["width"],
    num_decoder_layers=fields["layers"],
    num_layers=fields["source_layers"],
    num_heads=fields["heads"],
    d_kv=fields["head_size"],
    d_ff=fields["ff"],
    feed_forward_proj=kinds[fields["activation"]],
    tie_word_embeddings=fields["tied"],
    relative_attention_num_buckets=fields["buckets"],
    relative_attention_max_distance=fields["reach"],
    layer_norm_epsilon=fields["eps"],
    decoder_start_token_id=0,
  )


def _attention(ours: str, theirs: str) -> list:
  names = zip("qkvo", (1, 1, 1, 2), strict=True)
  return [(f"{ours}/{x}", f"{theirs}.{x}.weight", turned(n)) for x, n in names]


def _feed(n: int, gated: bool) -> list:
  up = "wi_1" if gated else "wi"
  return [
    ("ff_norm/scale", f"layer.{n}.layer_norm.weight", same),
    ("ff/gate", f"layer.{n}.DenseReluDense.wi_0.weight", turned()),
    ("ff/up", f"layer.{n}.DenseReluDense.{up}.weight", turned()),
    ("ff/down", f"layer.{n}.DenseReluDense.wo.weight", turned()),
  ]


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  gated = theirs.get("feed_forward_proj", "relu").startswith("gated")
  # Tied, but without the scale that T5 ties with: a readout of its own in ours.
  head = "lm_head.weight" if theirs.has("lm_head.weight", True) else "shared.weight"
  own = [
    ("attention_norm/scale", "layer.0.layer_norm.weight", same),
    *_attention("attention", "layer.0.SelfAttention"),
  ]
  cross = [
    ("cross_norm/scale", "layer.1.layer_norm.weight", same),
    *_attention("cross", "layer.1.EncDecAttention"),
  ]
  encoder, decoder = "encoder.block.{}.", "decoder.block.{}."
  return [
    row("embed/table", "shared.weight", rows(V)),
    row("head/table", head, columns(V)),
    row("source_distances/table", f"encoder.{BIAS}", same),
    row("distances/table", f"decoder.{BIAS}", same),
    row("source_norm/scale", "encoder.final_layer_norm.weight", same),
    row("norm/scale", "decoder.final_layer_norm.weight", same),
    *layers("source_blocks/layer/", encoder, *own, *_feed(1, gated)),
    *layers("blocks/layer/", decoder, *own, *cross, *_feed(2, gated)),
  ]
