"""Llama of Hugging Face, and what shares its code: Mistral, Qwen 2, Qwen 3, SmolLM."""

from lm.errors import Mistake
from lm.stores.hf import last_head
from lm.stores.hf.config import HfConfig, activation, rope, rope_parameters
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import columns, constant, flat, rows, same, transposed

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
FAMILY = "decoder"
PREFIX = "model."
IGNORED = r"rotary_emb\.inv_freq$"  # computed from config.json
DEFAULTS = dict(
  hidden_act="silu",
  rms_norm_eps=1e-6,
  tie_word_embeddings=False,
  attention_bias=False,
  mlp_bias=False,
)
# Rows of a layer, also of OLMo 2, Gemma and Mixtral.
ATTENTION = (
  ("attention/q", "self_attn.q_proj.weight", transposed()),
  ("attention/k", "self_attn.k_proj.weight", transposed()),
  ("attention/v", "self_attn.v_proj.weight", transposed()),
  ("attention/o", "self_attn.o_proj.weight", transposed(2)),
)
FEED_FORWARD = (
  ("ff/gate", "mlp.gate_proj.weight", transposed()),
  ("ff/up", "mlp.up_proj.weight", transposed()),
  ("ff/down", "mlp.down_proj.weight", transposed()),
)
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  kind, hf = hf["model_type"], hf.with_defaults(DEFAULTS)
  return sizes(hf) | dict(
    activation=activation(hf["hidden_act"], gated=True),
    eps=hf["rms_norm_eps"],
    tied=hf["tie_word_embeddings"],
    window=_window(kind, hf),
    bias=any(_biases(hf).values()) and not _only_qkv(hf),
    qkv_bias=_only_qkv(hf),
    qk_norm="head" if kind == "qwen3" else "none",
    **rope(hf),
    **last_head.fields(hf),
  )


def sizes(hf: HfConfig) -> dict:
  """Returns the fields of a model's sizes."""
  heads = hf.size("num_attention_heads")
  return dict(
    vocab=hf.size("vocab_size"),
    context=hf.size("max_position_embeddings"),
    width=hf.size("hidden_size"),
    layers=hf.size("num_hidden_layers"),
    heads=heads,
    kv_heads=hf.size("num_key_value_heads", heads),
    head_size=hf.size("head_dim", hf.size("hidden_size") // heads or 1),
    ff=hf.size("intermediate_size"),
  )


def sizes_to_hf(fields: dict) -> dict:
  """Returns the same sizes under the names of config.json."""
  return dict(
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    hidden_size=fields["width"],
    num_hidden_layers=fields["layers"],
    num_attention_heads=fields["heads"],
    num_key_value_heads=fields["kv_heads"],
    head_dim=fields["head_size"],
    intermediate_size=fields["ff"],
  )


def _window(kind: str, hf: HfConfig) -> int:
  """Returns the number of keys that a query sees, 0 for all.

  Raises Mistake where layers differ in it.
  """
  window = hf.get("sliding_window") or 0
  if kind == "llama" or hf.get("use_sliding_window", kind == "mistral") is False:
    return 0
  types = hf.get("layer_types")
  if types is None and window and kind != "mistral":
    windowed = hf.size("num_hidden_layers") - hf["max_window_layers"]
    types = ["sliding_attention"] * max(windowed, 0)
    types += ["full_attention"] * min(hf["max_window_layers"], 1)
  if len(set(types or ())) > 1:
    raise Mistake(
      "config.json has a window in some of the layers, which is not built here for "
      f"{kind}"
    )
  return 0 if types and types[0] == "full_attention" else window


def _window_to_hf(kind: str, window: int) -> dict:
  """Returns the values of config.json for a window in all layers, 0 for none."""
  if window and kind.startswith("qwen"):
    return dict(sliding_window=window, use_sliding_window=True, max_window_layers=0)
  return dict(sliding_window=window or None)


def _biases(hf: HfConfig) -> dict[str, bool]:
  """Returns which matrices have biases: {"qkv": bool, "o": bool, "mlp": bool}."""
  qwen2 = hf["model_type"] == "qwen2"
  attention = bool(hf["attention_bias"]) and not qwen2
  mlp = bool(hf["mlp_bias"]) and hf["model_type"] == "llama"
  return dict(qkv=attention or qwen2, o=attention, mlp=mlp)


def _only_qkv(hf: HfConfig) -> bool:
  return _biases(hf) == dict(qkv=True, o=False, mlp=False)


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  kind = "llama"
  if fields["window"]:
    kind = "mistral"
  if fields["qkv_bias"]:
    kind = "qwen2"
  if fields["qk_norm"] == "head":
    kind = "qwen3"
  return dict(
    model_type=kind,
    **last_head.to_hf(fields, CLASSES[kind], "ForCausalLM"),
    **sizes_to_hf(fields),
    hidden_act={"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}[fields["activation"]],
    rms_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
    attention_bias=fields["bias"],
    mlp_bias=fields["bias"] and kind == "llama",
    **_window_to_hf(kind, fields["window"]),
    rope_parameters=rope_parameters(fields),
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  hf = hf.with_defaults(DEFAULTS)
  V, zero = hf["vocab_size"], constant(0)
  biases = _biases(hf)

  def bias(part: str, path: str, name: str, reshape):
    return (path, name, reshape) if biases[part] else (path, "", zero)

  return [
    row("embed/table", "model.embed_tokens.weight", rows(V)),
    row("norm/scale", "model.norm.weight", same),
    row("norm/bias", "", zero),
    row("head/table", "lm_head.weight", columns(V)),
    last_head.classifier(),
    *layers(
      "blocks/layer/",
      "model.layers.{}.",
      ("attention_norm/scale", "input_layernorm.weight", same),
      ("attention_norm/bias", "", zero),
      *ATTENTION,
      bias("qkv", "attention/q_bias", "self_attn.q_proj.bias", flat),
      bias("qkv", "attention/k_bias", "self_attn.k_proj.bias", flat),
      bias("qkv", "attention/v_bias", "self_attn.v_proj.bias", flat),
      bias("o", "attention/o_bias", "self_attn.o_proj.bias", same),
      ("attention/q_norm/scale", "self_attn.q_norm.weight", same),
      ("attention/k_norm/scale", "self_attn.k_norm.weight", same),
      ("ff_norm/scale", "post_attention_layernorm.weight", same),
      ("ff_norm/bias", "", zero),
      *FEED_FORWARD,
      bias("mlp", "ff/gate_bias", "mlp.gate_proj.bias", same),
      bias("mlp", "ff/up_bias", "mlp.up_proj.bias", same),
      bias("mlp", "ff/down_bias", "mlp.down_proj.bias", same),
    ),
  ]
