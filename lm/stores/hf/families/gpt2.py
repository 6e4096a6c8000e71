"""GPT-2 of Hugging Face: queries, keys and values side by side, matrices (in, out)."""

from lm.stores.hf.config import ACTIVATIONS, Theirs, activation
from lm.stores.hf.engine import layers, row
from lm.stores.hf.reshape import beside, columns, flat, matrix, rows, same

FAMILY = "decoder"
PREFIX = "transformer."
# Causal masks that old files carry, and a tied readout said twice.
IGNORED = r"\.attn\.(masked_)?bias$"
DEFAULTS = dict(
  activation_function="gelu_new",
  layer_norm_epsilon=1e-5,
  tie_word_embeddings=True,
  n_inner=None,
)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  theirs.needs(
    scale_attn_weights=True,
    scale_attn_by_inverse_layer_idx=False,
    add_cross_attention=False,
  )
  return dict(
    vocab=theirs.size("vocab_size"),
    context=theirs.size("n_positions"),
    width=theirs.size("n_embd"),
    layers=theirs.size("n_layer"),
    heads=theirs.size("n_head"),
    ff=theirs.size("n_inner", 4 * theirs.size("n_embd")),
    activation=activation(theirs["activation_function"], gated=False),
    eps=theirs["layer_norm_epsilon"],
    tied=theirs["tie_word_embeddings"],
    positions="learned",
    norm="layer",
    bias=True,
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return dict(
    model_type="gpt2",
    architectures=["GPT2LMHeadModel"],
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


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  return [
    row("embed/table", "transformer.wte.weight", rows(V)),
    row("positions/table", "transformer.wpe.weight", same),
    row("norm/scale", "transformer.ln_f.weight", same),
    row("norm/bias", "transformer.ln_f.bias", same),
    row("head/table", "lm_head.weight", columns(V)),
    *layers(
      "blocks/layer/",
      "transformer.h.{}.",
      ("attention_norm/scale", "ln_1.weight", same),
      ("attention_norm/bias", "ln_1.bias", same),
      (
        "attention/q attention/k attention/v",
        "attn.c_attn.weight",
        beside(1, matrix(), matrix(), matrix()),
      ),
      (
        "attention/q_bias attention/k_bias attention/v_bias",
        "attn.c_attn.bias",
        beside(0, flat, flat, flat),
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
