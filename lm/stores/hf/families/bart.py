"""BART of Hugging Face, and what its relatives share: sizes, layers, tied embeddings.

The relatives differ by constants of their classes, which config.json does not hold.
"""

from lm.errors import Mistake
from lm.stores.hf.config import ACTIVATIONS, HfConfig, activation
from lm.stores.hf.mapping import layers, linear, norm, row, without_prefix
from lm.stores.hf.reshape import bias_row, flat, rows, same, transposed

MODEL_TYPES = ("bart",)
FAMILY, PREFIX, IGNORED = "bart", "model.", ""
DEFAULTS = dict(activation_function="gelu", scale_embedding=False)
BIAS = "final_logits_bias"
HEADLESS = "Model"  # the end of a class whose files lack that tensor


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  style = dict(positions="learned", post_norm=True, embedding_norm=True)
  return sizes(hf) | style | dict(first_position=2)


def sizes(hf: HfConfig) -> dict:
  """Returns the fields that config.json holds, whichever relative it is of."""
  hf = hf.with_defaults(DEFAULTS)
  hf.require(tie_word_embeddings=True)
  for name in ("attention_heads", "ffn_dim"):
    own, source = hf.size(f"decoder_{name}"), hf.size(f"encoder_{name}")
    if own != source:
      raise Mistake(
        f"decoder_{name}={own} and encoder_{name}={source} in config.json; models of "
        "this family have one number for both"
      )
  return dict(
    vocab=hf.size("vocab_size"),
    context=hf.size("max_position_embeddings"),
    width=hf.size("d_model"),
    layers=hf.size("decoder_layers"),
    source_layers=hf.size("encoder_layers"),
    heads=hf.size("decoder_attention_heads"),
    ff=hf.size("decoder_ffn_dim"),
    activation=activation(hf["activation_function"], gated=False),
    scaled=bool(hf["scale_embedding"]),
    logits_bias=hf.has_tensor(BIAS, not _is_headless(hf)),
  )


def _is_headless(hf: HfConfig) -> bool:
  """Returns True if the class in config.json is one without a head."""
  names = " ".join(map(str, hf.get("architectures") or ()))
  return names.endswith(HEADLESS) and not names.endswith("MTModel")


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return relative_to_hf(fields, "bart", "Bart")


def relative_to_hf(fields: dict, model_type: str, prefix: str) -> dict:
  """Returns config.json of a relative, whose class names begin with `prefix`."""
  suffix = "ForConditionalGeneration" if fields["logits_bias"] else HEADLESS
  return dict(
    model_type=model_type,
    architectures=[prefix + suffix],
    is_encoder_decoder=True,
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    d_model=fields["width"],
    decoder_layers=fields["layers"],
    encoder_layers=fields["source_layers"],
    decoder_attention_heads=fields["heads"],
    encoder_attention_heads=fields["heads"],
    decoder_ffn_dim=fields["ff"],
    encoder_ffn_dim=fields["ff"],
    activation_function=ACTIVATIONS[fields["activation"]],
    scale_embedding=fields["scaled"],
    tie_word_embeddings=True,
  )


def mapping(hf: HfConfig, tables=()) -> list:
  """Returns the rows of all parameters, of any relative, and those of its `tables`.

  Those of norms and positions that it lacks are left out.
  """
  V = hf["vocab_size"]
  own = [
    *_attention("attention", "self_attn"),
    *norm("attention_norm", "self_attn_layer_norm"),
  ]
  cross = [
    *_attention("cross", "encoder_attn"),
    *norm("cross_norm", "encoder_attn_layer_norm"),
  ]
  ff = [
    *linear("ff/up", "fc1", transposed()),
    *linear("ff/down", "fc2", transposed()),
    *norm("ff_norm", "final_layer_norm"),
  ]
  all_rows = [
    row("embed/table", f"{PREFIX}shared.weight", rows(V)),
    row("bias", BIAS, bias_row(V)),
    *_outside("source_", f"{PREFIX}encoder."),
    *layers("source_blocks/layer/", f"{PREFIX}encoder.layers.{{}}.", *own, *ff),
    *_outside("", f"{PREFIX}decoder."),
    *layers("blocks/layer/", f"{PREFIX}decoder.layers.{{}}.", *own, *cross, *ff),
    *tables,
  ]
  return (
    without_prefix(all_rows, PREFIX, hf.names or ()) if _is_headless(hf) else all_rows
  )


def _outside(prefix: str, hf_prefix: str) -> list:
  """Returns the rows of the encoder or the decoder around its layers."""
  return layers(
    prefix,
    hf_prefix,
    ("positions/table", "embed_positions.weight", same),
    *norm("embed_norm", "layernorm_embedding"),
    *norm("norm", "layer_norm"),
  )


def _attention(path: str, hf: str) -> list:
  return [
    *linear(f"{path}/q", f"{hf}.q_proj", transposed(), flat),
    *linear(f"{path}/k", f"{hf}.k_proj", transposed(), flat),
    *linear(f"{path}/v", f"{hf}.v_proj", transposed(), flat),
    *linear(f"{path}/o", f"{hf}.out_proj", transposed(2)),
  ]
