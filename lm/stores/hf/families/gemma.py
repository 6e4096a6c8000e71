"""Gemma 2 and 3 (text) of Hugging Face: four norms a layer, stored minus 1."""

from lm.errors import Mistake
from lm.stores.hf.config import HfConfig, rope, rope_parameters
from lm.stores.hf.families import llama
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import rows, same

MODEL_TYPES = ("gemma2", "gemma3_text")
FAMILY, PREFIX = "gemma", "model."
IGNORED = llama.IGNORED
DEFAULTS = dict(
  hidden_activation="gelu_pytorch_tanh",
  rms_norm_eps=1e-6,
  attn_logit_softcapping=None,
  final_logit_softcapping=None,
)
# Period of global layers in files older than `layer_types`.
PERIOD = {"gemma2": 2, "gemma3_text": 6}


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  is_gemma3 = hf["model_type"] == "gemma3_text"
  hf = hf.with_defaults(DEFAULTS)
  hf.require(
    hidden_activation="gelu_pytorch_tanh",
    attention_bias=False,
    tie_word_embeddings=True,
  )
  if hf.get("use_bidirectional_attention"):
    raise Mistake("use_bidirectional_attention in config.json is not built here")
  full, local_theta = hf, hf.get("rope_local_base_freq", 10_000.0)
  by_layer_type = hf.get("rope_parameters") or {}
  if "full_attention" in by_layer_type:
    full = HfConfig(hf | {"rope_parameters": by_layer_type["full_attention"]})
    local = HfConfig({"rope_parameters": by_layer_type["sliding_attention"]})
    local_theta = rope(local)["theta"]
  angles = rope(full, 1e6 if is_gemma3 else 10_000.0)
  return llama.sizes(hf) | dict(
    eps=hf["rms_norm_eps"],
    window=hf.size("sliding_window"),
    score_size=hf.size("query_pre_attn_scalar"),
    softcap=hf["attn_logit_softcapping"] or 0.0,
    logit_softcap=hf["final_logit_softcapping"] or 0.0,
    global_every=_global_every(hf),
    qk_norm="head" if is_gemma3 else "none",
    local_theta=float(local_theta) if is_gemma3 else angles["theta"],
    **angles,
  )


def _global_every(hf: HfConfig) -> int:
  """Returns n where every n-th layer is global; Mistake for any other pattern."""
  every = hf.get("sliding_window_pattern", PERIOD[hf["model_type"]])
  types = hf.get("layer_types")
  if types is None:
    return every
  full = "full_attention"
  every = 1 + types.index(full) if full in types else max(every, len(types) + 1)
  if types != _layer_types(len(types), every):
    raise Mistake("layer_types in config.json follow no rule that is built here")
  return every


def _layer_types(layers: int, every: int) -> list[str]:
  return [
    "full_attention" if l % every == 0 else "sliding_attention"
    for l in range(1, layers + 1)
  ]


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  is_gemma3 = fields["qk_norm"] == "head"
  full = rope_parameters(fields)
  local = {"rope_type": "default", "rope_theta": fields["local_theta"]}
  by_layer_type = {"full_attention": full, "sliding_attention": local}
  return llama.sizes_to_hf(fields) | dict(
    model_type="gemma3_text" if is_gemma3 else "gemma2",
    architectures=["Gemma3ForCausalLM" if is_gemma3 else "Gemma2ForCausalLM"],
    hidden_activation="gelu_pytorch_tanh",
    rms_norm_eps=fields["eps"],
    sliding_window=fields["window"],
    query_pre_attn_scalar=fields["score_size"] or fields["head_size"],
    attn_logit_softcapping=fields["softcap"] or None,
    final_logit_softcapping=fields["logit_softcap"] or None,
    layer_types=_layer_types(fields["layers"], fields["global_every"]),
    rope_parameters=by_layer_type if is_gemma3 else full,
    tie_word_embeddings=True,
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  return [
    row("embed/table", "model.embed_tokens.weight", rows(hf["vocab_size"])),
    row("norm/offset", "model.norm.weight", same),
    *layers(
      "blocks/layer/",
      "model.layers.{}.",
      ("attention_norm/offset", "input_layernorm.weight", same),
      *llama.ATTENTION,
      ("attention/q_norm/offset", "self_attn.q_norm.weight", same),
      ("attention/k_norm/offset", "self_attn.k_norm.weight", same),
      ("attention_out_norm/offset", "post_attention_layernorm.weight", same),
      ("ff_norm/offset", "pre_feedforward_layernorm.weight", same),
      *llama.FEED_FORWARD,
      ("ff_out_norm/offset", "post_feedforward_layernorm.weight", same),
    ),
  ]
