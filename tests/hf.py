"""Hugging Face's decoders as models and parameters of ours: for tests."""

import jax
import numpy as np
import torch
from hf_names import LLAMA, TABLES

from lm import dims, lookup


def config(theirs, **fields) -> dict:
  """The values of our Config for a transformers model, `fields` taking precedence."""
  c = theirs.config
  known = OURS.get(c.model_type, _llama)(c)
  return known | dict(vocab=c.vocab_size) | fields


def _gpt2(c):
  return dict(
    width=c.n_embd,
    layers=c.n_layer,
    heads=c.n_head,
    context=c.n_positions,
    eps=c.layer_norm_epsilon,
    positions="learned",
    norm="layer",
    activation={"gelu_new": "gelu_tanh", "gelu": "gelu"}[c.activation_function],
    bias=True,
    tied=c.tie_word_embeddings,
  )


def _sizes(c):
  return dict(
    width=c.hidden_size,
    layers=c.num_hidden_layers,
    heads=c.num_attention_heads,
    ff=c.intermediate_size,
    context=c.max_position_embeddings,
  )


def _neox(c):
  return _sizes(c) | dict(
    eps=c.layer_norm_eps,
    norm="layer",
    activation="gelu",
    bias=True,
    tied=c.tie_word_embeddings,
    order="parallel" if c.use_parallel_residual else "before",
    **rope(c.rope_parameters),
  )


def _llama(c):
  """Also Mistral, Mixtral, Qwen 2, Qwen 3 and OLMo 2."""
  return _sizes(c) | dict(
    kv_heads=c.num_key_value_heads,
    head_size=getattr(c, "head_dim", 0) or 0,
    eps=c.rms_norm_eps,
    window=getattr(c, "sliding_window", 0) or 0,
    tied=c.tie_word_embeddings,
    bias=getattr(c, "attention_bias", False),
    qkv_bias=c.model_type == "qwen2",
    qk_norm={"qwen3": "head", "olmo2": "width"}.get(c.model_type, "none"),
    order="after" if c.model_type == "olmo2" else "before",
    experts=getattr(c, "num_local_experts", 0),
    top_k=getattr(c, "num_experts_per_tok", 2),
    **rope(c.rope_parameters),
  )


def _gemma(c):
  third = c.model_type == "gemma3_text"
  known = dict(
    family="gemma",
    kv_heads=c.num_key_value_heads,
    head_size=c.head_dim,
    eps=c.rms_norm_eps,
    window=c.sliding_window,
    score_size=c.query_pre_attn_scalar,
    softcap=c.attn_logit_softcapping or 0.0,
    logit_softcap=c.final_logit_softcapping or 0.0,
    global_every=1 + c.layer_types.index("full_attention"),
    qk_norm="head" if third else "none",
  )
  if third:
    near, far = (c.rope_parameters[f"{k}_attention"] for k in ("sliding", "full"))
    return _sizes(c) | known | rope(far) | dict(local_theta=near["rope_theta"])
  return _sizes(c) | known | rope(c.rope_parameters)


OURS = {"gpt2": _gpt2, "gpt_neox": _neox, "gemma2": _gemma, "gemma3_text": _gemma}


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


def copied(theirs, **fields) -> tuple:
  """Our model and parameters with the weights of a transformers model."""
  model = lookup.model(**({"family": "decoder"} | config(theirs, **fields)))
  shapes, _ = dims.abstract(model, np.zeros((1, 2), np.int32))
  state = {name: x.detach().numpy() for name, x in theirs.state_dict().items()}
  table = TABLES.get(theirs.config.model_type, LLAMA)
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
  left = set(state) - used - ({"lm_head.weight"} if "head" not in params else set())
  if left:
    raise ValueError(f"weights without a row in the table: {', '.join(sorted(left))}")
  return model, params


def logits(theirs, tokens_BT) -> np.ndarray:
  """logits_BTV of a transformers model."""
  with torch.no_grad():
    return theirs(torch.from_numpy(np.asarray(tokens_BT, np.int64))).logits.numpy()
