"""T5 of Hugging Face, v1.0 and v1.1 (Flan-T5 too)."""

from lm.errors import Mistake
from lm.stores.hf.config import HfConfig
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import columns, rows, same, transposed

MODEL_TYPES = ("t5",)
FAMILY, PREFIX = "encdec", ""
# Copies of the embedding; biases of cross attention, which T5 does not use.
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
FEED_FORWARDS = {"relu": "relu", "gated-gelu": "geglu"}
BIAS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  kind = hf["feed_forward_proj"]
  if kind not in FEED_FORWARDS:
    raise Mistake(
      f"feed_forward_proj={kind!r} in config.json; known: {', '.join(FEED_FORWARDS)}"
    )
  layers = hf.size("num_layers")
  return dict(
    vocab=hf.size("vocab_size"),
    width=hf.size("d_model"),
    layers=hf.size("num_decoder_layers", layers),
    source_layers=layers,
    heads=hf.size("num_heads"),
    head_size=hf.size("d_kv"),
    ff=hf.size("d_ff"),
    activation=FEED_FORWARDS[kind],
    # Later files say tied whatever is true; the scale of the readout tells.
    tied=hf.get("scale_decoder_outputs", hf["tie_word_embeddings"]),
    buckets=hf.size("relative_attention_num_buckets"),
    reach=hf.size("relative_attention_max_distance"),
    eps=hf["layer_norm_epsilon"],
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  kind_of = {ours: kind for kind, ours in FEED_FORWARDS.items()}
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
    feed_forward_proj=kind_of[fields["activation"]],
    tie_word_embeddings=fields["tied"],
    relative_attention_num_buckets=fields["buckets"],
    relative_attention_max_distance=fields["reach"],
    layer_norm_epsilon=fields["eps"],
  )


def _attention(path: str, hf: str) -> list:
  inputs_of = {"q": 1, "k": 1, "v": 1, "o": 2}
  return [
    (f"{path}/{name}", f"{hf}.{name}.weight", transposed(inputs))
    for name, inputs in inputs_of.items()
  ]


def _feed_forward(n: int, gated: bool) -> list:
  up = "wi_1" if gated else "wi"
  return [
    ("ff_norm/scale", f"layer.{n}.layer_norm.weight", same),
    ("ff/gate", f"layer.{n}.DenseReluDense.wi_0.weight", transposed()),
    ("ff/up", f"layer.{n}.DenseReluDense.{up}.weight", transposed()),
    ("ff/down", f"layer.{n}.DenseReluDense.wo.weight", transposed()),
  ]


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V = hf["vocab_size"]
  gated = hf.get("feed_forward_proj", "relu").startswith("gated")
  # Tied, but without the scale that T5 ties with: ours has a readout of its own.
  head = "lm_head.weight" if hf.has_tensor("lm_head.weight", True) else "shared.weight"
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
    *layers("source_blocks/layer/", encoder, *own, *_feed_forward(1, gated)),
    *layers("blocks/layer/", decoder, *own, *cross, *_feed_forward(2, gated)),
  ]
