"""The decoders of Hugging Face as tables of (ours, theirs, reshape).

Where they have no such weight (a bias, a norm of queries) the name is "" or not among
theirs, and ours is zeros or, for a scale, ones: the numbers are then the same.
"""

import numpy as np
from hf_tables import columns, rows, same, turned

# Reshapes: their array and our shape to our array. Theirs are (out, in), but for GPT-2.


def third(n):
  """One of the query, the key and the value, which GPT-2 keeps side by side."""
  return lambda x, shape: np.split(x, 3, axis=-1)[n].reshape(shape)


def third_by_head(n):
  """One of the three, which GPT-NeoX keeps side by side in every head."""

  def split(x, shape):
    N, H = shape[-2:]
    return turned(x.reshape(N, 3, H, -1)[:, n].reshape(N * H, -1), shape)

  return split


def of_experts(n, parts):
  """Part n of the matrices of all experts, each (out, in)."""
  return lambda x, shape: np.swapaxes(np.split(x, parts, axis=1)[n], 1, 2)


def layers(prefix, *rows):
  """Rows of one layer; {} in `prefix` is where their names have its number."""
  return [
    (f"blocks/layer/{ours}", name and prefix + name, reshape)
    for ours, name, reshape in rows
  ]


GPT2 = (
  ("embed/table", "transformer.wte.weight", rows),
  ("places/table", "transformer.wpe.weight", same),
  ("norm/scale", "transformer.ln_f.weight", same),
  ("norm/bias", "transformer.ln_f.bias", same),
  ("head/table", "lm_head.weight", columns),
  *layers(
    "transformer.h.{}.",
    ("attention_norm/scale", "ln_1.weight", same),
    ("attention_norm/bias", "ln_1.bias", same),
    ("attention/q", "attn.c_attn.weight", third(0)),
    ("attention/k", "attn.c_attn.weight", third(1)),
    ("attention/v", "attn.c_attn.weight", third(2)),
    ("attention/o", "attn.c_proj.weight", same),
    ("attention/q_bias", "attn.c_attn.bias", third(0)),
    ("attention/k_bias", "attn.c_attn.bias", third(1)),
    ("attention/v_bias", "attn.c_attn.bias", third(2)),
    ("attention/o_bias", "attn.c_proj.bias", same),
    ("ff_norm/scale", "ln_2.weight", same),
    ("ff_norm/bias", "ln_2.bias", same),
    ("ff/up", "mlp.c_fc.weight", same),
    ("ff/up_bias", "mlp.c_fc.bias", same),
    ("ff/down", "mlp.c_proj.weight", same),
    ("ff/down_bias", "mlp.c_proj.bias", same),
  ),
)

# Also Mistral, Qwen 2 and Qwen 3, and the base of OLMo 2's and Gemma's.
LLAMA = (
  ("embed/table", "model.embed_tokens.weight", rows),
  ("norm/scale", "model.norm.weight", same),
  ("norm/bias", "", same),
  ("head/table", "lm_head.weight", columns),
  *layers(
    "model.layers.{}.",
    ("attention_norm/scale", "input_layernorm.weight", same),
    ("attention_norm/bias", "", same),
    ("attention/q", "self_attn.q_proj.weight", turned),
    ("attention/k", "self_attn.k_proj.weight", turned),
    ("attention/v", "self_attn.v_proj.weight", turned),
    ("attention/o", "self_attn.o_proj.weight", turned),
    ("attention/q_bias", "self_attn.q_proj.bias", same),
    ("attention/k_bias", "self_attn.k_proj.bias", same),
    ("attention/v_bias", "self_attn.v_proj.bias", same),
    ("attention/o_bias", "self_attn.o_proj.bias", same),
    ("attention/q_norm/scale", "self_attn.q_norm.weight", same),
    ("attention/k_norm/scale", "self_attn.k_norm.weight", same),
    ("ff_norm/scale", "post_attention_layernorm.weight", same),
    ("ff_norm/bias", "", same),
    ("ff/gate", "mlp.gate_proj.weight", turned),
    ("ff/gate_bias", "mlp.gate_proj.bias", same),
    ("ff/up", "mlp.up_proj.weight", turned),
    ("ff/up_bias", "mlp.up_proj.bias", same),
    ("ff/down", "mlp.down_proj.weight", turned),
    ("ff/down_bias", "mlp.down_proj.bias", same),
  ),
)


NEOX = (
  ("embed/table", "gpt_neox.embed_in.weight", rows),
  ("norm/scale", "gpt_neox.final_layer_norm.weight", same),
  ("norm/bias", "gpt_neox.final_layer_norm.bias", same),
  ("head/table", "lm_head.weight", columns),
  *layers(
    "gpt_neox.layers.{}.",
    ("attention_norm/scale", "input_layernorm.weight", same),
    ("attention_norm/bias", "input_layernorm.bias", same),
    ("attention/q", "attention.query_key_value.weight", third_by_head(0)),
    ("attention/k", "attention.query_key_value.weight", third_by_head(1)),
    ("attention/v", "attention.query_key_value.weight", third_by_head(2)),
    ("attention/q_bias", "attention.query_key_value.bias", third_by_head(0)),
    ("attention/k_bias", "attention.query_key_value.bias", third_by_head(1)),
    ("attention/v_bias", "attention.query_key_value.bias", third_by_head(2)),
    ("attention/o", "attention.dense.weight", turned),
    ("attention/o_bias", "attention.dense.bias", same),
    ("ff_norm/scale", "post_attention_layernorm.weight", same),
    ("ff_norm/bias", "post_attention_layernorm.bias", same),
    ("ff/up", "mlp.dense_h_to_4h.weight", turned),
    ("ff/up_bias", "mlp.dense_h_to_4h.bias", same),
    ("ff/down", "mlp.dense_4h_to_h.weight", turned),
    ("ff/down_bias", "mlp.dense_4h_to_h.bias", same),
  ),
)


def instead(table, prefix, **names):
  """A table with other names of theirs for some norms of every layer."""
  new = {f"blocks/layer/{ours}/scale": name for ours, name in names.items()}
  kept = [row for row in table if row[0] not in new]
  return (
    *kept,
    *((ours, prefix + name + ".weight", same) for ours, name in new.items()),
  )


OLMO2 = instead(
  LLAMA,
  "model.layers.{}.",
  attention_norm="post_attention_layernorm",
  ff_norm="post_feedforward_layernorm",
)
MIXTRAL = [row for row in LLAMA if "/ff/" not in row[0]] + layers(
  "model.layers.{}.mlp.",
  ("ff/router", "gate.weight", turned),
  ("ff/gate", "experts.gate_up_proj", of_experts(0, 2)),
  ("ff/up", "experts.gate_up_proj", of_experts(1, 2)),
  ("ff/down", "experts.down_proj", of_experts(0, 1)),
)
GEMMA = [
  (ours.replace("/scale", "/offset"), theirs, reshape)
  for ours, theirs, reshape in instead(
    LLAMA,
    "model.layers.{}.",
    attention_norm="input_layernorm",
    attention_out_norm="post_attention_layernorm",
    ff_norm="pre_feedforward_layernorm",
    ff_out_norm="post_feedforward_layernorm",
  )
]
TABLES = {
  "gpt2": GPT2,
  "gpt_neox": NEOX,
  "olmo2": OLMO2,
  "mixtral": MIXTRAL,
  "gemma2": GEMMA,
  "gemma3_text": GEMMA,
}
