"""Hugging Face's models as parameters of ours: tables of (ours, theirs, reshape).

For tests and benchmarks. Where they have no such weight (a bias, a norm of queries)
ours is zeros or, for a scale, ones: the numbers are then the same.
"""

import jax
import numpy as np
import torch

from lm import dims, lookup
from lm.models.decoder import Model

# Reshapes: their array and our shape to our array. Theirs are (out, in), but for GPT-2.


def same(x, shape):
  return x.reshape(shape)


def turned(x, shape):
  return x.T.reshape(shape)


def third(n):
  """One of the query, the key and the value, which GPT-2 keeps side by side."""
  return lambda x, shape: np.split(x, 3, axis=-1)[n].reshape(shape)


def rows(x, shape):
  """A table, its vocabulary padded with zeros."""
  return np.pad(x, ((0, shape[0] - x.shape[0]), (0, 0)))


def columns(x, shape):
  return rows(x, shape[::-1]).T


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

# Also Mistral, Qwen 2 and Qwen 3.
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


def config(theirs, **fields) -> dict:
  """The values of our Config for a transformers model, `fields` taking precedence."""
  c = theirs.config
  if c.model_type == "gpt2":
    known = dict(
      width=c.n_embd,
      layers=c.n_layer,
      heads=c.n_head,
      context=c.n_positions,
      eps=c.layer_norm_epsilon,
      positions="learned",
      norm="layer",
      activation={"gelu_new": "gelu_tanh", "gelu": "gelu"}[c.activation_function],
      bias=True,
    )
  else:
    known = dict(
      width=c.hidden_size,
      layers=c.num_hidden_layers,
      heads=c.num_attention_heads,
      kv_heads=c.num_key_value_heads,
      head_size=getattr(c, "head_dim", 0) or 0,
      ff=c.intermediate_size,
      context=c.max_position_embeddings,
      eps=c.rms_norm_eps,
      **rope(c.rope_parameters),
      window=getattr(c, "sliding_window", 0) or 0,
      qk_norm="head" if c.model_type == "qwen3" else "none",
      bias=any(name.endswith(".bias") for name in theirs.state_dict()),
    )
  return known | dict(vocab=c.vocab_size, tied=c.tie_word_embeddings) | fields


def rope(theirs) -> dict:
  """The values of our Rope for their `rope_parameters`."""
  names = dict(
    rope_theta="theta",
    partial_rotary_factor="rotary_share",
    factor="factor",
    original_max_position_embeddings="original_context",
    low_freq_factor="low_turns",
    high_freq_factor="high_turns",
    beta_slow="low_turns",
    beta_fast="high_turns",
    attention_factor="attention_factor",
  )
  usual = dict(high_turns=32.0) if theirs["rope_type"] == "yarn" else {}
  known = {ours: theirs[name] for name, ours in names.items() if name in theirs}
  kind = theirs["rope_type"]
  return usual | known | dict(scaling="none" if kind == "default" else kind)


def copied(theirs, **fields) -> tuple[Model, dict]:
  """Our model and parameters with the weights of a transformers model."""
  model = lookup.model("decoder", **config(theirs, **fields))
  shapes, _ = dims.abstract(model, np.zeros((1, 2), np.int32))
  state = {name: x.detach().numpy() for name, x in theirs.state_dict().items()}
  table = GPT2 if theirs.config.model_type == "gpt2" else LLAMA
  known = {ours: (name, reshape) for ours, name, reshape in table}
  used = set()

  def weight(name, reshape, path, shape):
    if name in state:
      used.add(name)
      return reshape(state[name], shape)
    return np.full(shape, float(path.endswith("scale")), np.float32)

  def one(path, leaf):
    path = dims.path_name(path)
    name, reshape = known[path]
    if not path.startswith("blocks/"):
      return weight(name, reshape, path, leaf.shape)
    L, *shape = leaf.shape
    return np.stack([weight(name.format(l), reshape, path, shape) for l in range(L)])

  params = jax.tree_util.tree_map_with_path(one, shapes)
  left = set(state) - used - ({"lm_head.weight"} if model.config.tied else set())
  if left:
    raise ValueError(f"weights without a row in the table: {', '.join(sorted(left))}")
  return model, params


def logits(theirs, tokens_BT) -> np.ndarray:
  """logits_BTV of a transformers model."""
  with torch.no_grad():
    return theirs(torch.from_numpy(np.asarray(tokens_BT, np.int64))).logits.numpy()
