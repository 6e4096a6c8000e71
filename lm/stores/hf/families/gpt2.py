"""GPT-2 of Hugging Face: q, k and v concatenated, matrices (in, out)."""

from lm.stores.hf import last_head
from lm.stores.hf.config import ACTIVATIONS, HfConfig, activation
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import columns, concatenated, flat, matrix, rows, same

MODEL_TYPES = ("gpt2",)
FAMILY = "decoder"
PREFIX = "transformer."
# Causal masks in old files.
IGNORED = r"\.attn\.(masked_)?bias$"
DEFAULTS = dict(
  activation_function="gelu_new",
  layer_norm_epsilon=1e-5,
  tie_word_embeddings=True,
  n_inner=None,
)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  hf.require(
    scale_attn_weights=True,
    scale_attn_by_inverse_layer_idx=False,
    add_cross_attention=False,
  )
  return dict(
    vocab=hf.size("vocab_size"),
    context=hf.size("n_positions"),
    width=hf.size("n_embd"),
    layers=hf.size("n_layer"),
    heads=hf.size("n_head"),
    ff=hf.size("n_inner", 4 * hf.size("n_embd")),
    activation=activation(hf["activation_function"], gated=False),
    eps=hf["layer_norm_epsilon"],
    tied=hf["tie_word_embeddings"],
    positions="learned",
    norm="layer",
    bias=True,
    **last_head.fields(hf),
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return dict(
    model_type="gpt2",
    **last_head.to_hf(fields, "GPT2", "LMHeadModel"),
    vocab_size=fields["vocab"],
    n_positions=fields["context"],
    n_embd=fields["width"],
    n_layer=fields["layers"],
    n_head=fields["heads"],
    n_inner=fields["ff"],
    activation_function=ACTIVATIONS[fields["activation"]],
    layer_norm_epsilon=fields["eps"],
    tie_word_embeddings=fields["tied"],
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V = hf["vocab_size"]
  return [
    row("embed/table", "transformer.wte.weight", rows(V)),
    row("positions/table", "transformer.wpe.weight", same),
    row("norm/scale", "transformer.ln_f.weight", same),
    row("norm/bias", "transformer.ln_f.bias", same),
    row("head/table", "lm_head.weight", columns(V)),
    last_head.classifier(),
    *layers(
      "blocks/layer/",
      "transformer.h.{}.",
      ("attention_norm/scale", "ln_1.weight", same),
      ("attention_norm/bias", "ln_1.bias", same),
      (
        "attention/q attention/k attention/v",
        "attn.c_attn.weight",
        concatenated(1, matrix(), matrix(), matrix()),
      ),
      (
        "attention/q_bias attention/k_bias attention/v_bias",
        "attn.c_attn.bias",
        concatenated(0, flat, flat, flat),
      ),
      ("attention/o", "attn.c_proj.weight", matrix(2)),
      ("attention/o_bias", "attn.c_proj.bias", same),
      ("ff_norm/scale", "ln_2.weight", same),
      ("ff_norm/bias", "ln_2.bias", same),
      ("ff/up", "mlp.c_fc.weight", matrix()),
      ("ff/up_bias", "mlp.c_fc.bias", same),
      ("ff/down", "mlp.c_proj.weight", matrix()),
      ("ff/down_bias", "mlp.c_proj.bias", same),
    ),
  ]
