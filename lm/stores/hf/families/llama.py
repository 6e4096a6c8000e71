"""Llama and its kin of Hugging Face: Mistral, Qwen 2, Qwen 3, SmolLM."""

from lm.errors import Mistake
from lm.stores.hf.config import Theirs, activation, rope, rope_of
from lm.stores.hf.engine import layers, row
from lm.stores.hf.reshape import columns, constant, flat, rows, same, turned

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
# Rows of a layer that OLMo 2, Gemma and Mixtral have too.
ATTENTION = (
  ("attention/q", "self_attn.q_proj.weight", turned()),
  ("attention/k", "self_attn.k_proj.weight", turned()),
  ("attention/v", "self_attn.v_proj.weight", turned()),
  ("attention/o", "self_attn.o_proj.weight", turned(2)),
)
FEED = (
  ("ff/gate", "mlp.gate_proj.weight", turned()),
  ("ff/up", "mlp.up_proj.weight", turned()),
  ("ff/down", "mlp.down_proj.weight", turned()),
)
NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  kind, theirs = theirs["model_type"], theirs.over(DEFAULTS)
  return sizes(theirs) | dict(
    activation=activation(theirs["hidden_act"], gated=True),
    eps=theirs["rms_norm_eps"],
    tied=theirs["tie_word_embeddings"],
    window=_window(kind, theirs),
    bias=any(_biases(theirs).values()) and not _only_qkv(theirs),
    qkv_bias=_only_qkv(theirs),
    qk_norm="head" if kind == "qwen3" else "none",
    **rope(theirs),
  )


def sizes(theirs: Theirs) -> dict:
  """The fields that say how large a model is."""
  heads = theirs.size("num_attention_heads")
  return dict(
    vocab=theirs.size("vocab_size"),
    context=theirs.size("max_position_embeddings"),
    width=theirs.size("hidden_size"),
    layers=theirs.size("num_hidden_layers"),
    heads=heads,
    kv_heads=theirs.size("num_key_value_heads", heads),
    head_size=theirs.size("head_dim", theirs.size("hidden_size") // heads or 1),
    ff=theirs.size("intermediate_size"),
  )


def sizes_of(fields: dict) -> dict:
  """The same in a config.json."""
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


def _window(kind: str, theirs: Theirs) -> int:
  """The keys each query sees, 0 for all; Mistake where layers differ in it."""
  window = theirs.get("sliding_window") or 0
  if kind == "llama" or theirs.get("use_sliding_window", kind == "mistral") is False:
    return 0
  kinds = theirs.get("layer_types")
  if kinds is None and window and kind != "mistral":
    windowed = theirs.size("num_hidden_layers") - theirs["max_window_layers"]
    kinds = ["sliding_attention"] * max(windowed, 0)
    kinds += ["full_attention"] * min(theirs["max_window_layers"], 1)
  if len(set(kinds or ())) > 1:
    raise Mistake(
      "config.json has a window in some of the layers, which is not built here for "
      f"{kind}"
    )
  return 0 if kinds and kinds[0] == "full_attention" else window


def _biases(theirs: Theirs) -> dict[str, bool]:
  """Which of the matrices have biases."""
  qwen2 = theirs["model_type"] == "qwen2"
  attention = bool(theirs["attention_bias"]) and not qwen2
  mlp = bool(theirs["mlp_bias"]) and theirs["model_type"] == "llama"
  return dict(qkv=attention or qwen2, o=attention, mlp=mlp)


def _only_qkv(theirs: Theirs) -> bool:
  return _biases(theirs) == dict(qkv=True, o=False, mlp=False)


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  kind = "llama"
  if fields["window"]:
    kind = "mistral"
  if fields["qkv_bias"]:
    kind = "qwen2"
  if fields["qk_norm"] == "head":
    kind = "qwen3"
  return dict(
    model_type=kind,
    architectures=[f"{NAMES[kind]}ForCausalLM"],
    **sizes_of(fields),
    hidden_act={"swiglu": "silu", "geglu": "gelu_pytorch_tanh"}[fields["activation"]],
    rms_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
    attention_bias=fields["bias"],
    mlp_bias=fields["bias"] and kind == "llama",
    sliding_window=fields["window"] or None,
    rope_parameters=rope_of(fields),
  )


def table(theirs: Theirs) -> list:
  theirs = theirs.over(DEFAULTS)
  V, zero = theirs["vocab_size"], constant(0)
  biases = _biases(theirs)

  def bias(of: str, ours: str, name: str, reshape):
    return (ours, name, reshape) if biases[of] else (ours, "", zero)

  return [
    row("embed/table", "model.embed_tokens.weight", rows(V)),
    row("norm/scale", "model.norm.weight", same),
    row("norm/bias", "", zero),
    row("head/table", "lm_head.weight", columns(V)),
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
      *FEED,
      bias("mlp", "ff/gate_bias", "mlp.gate_proj.bias", same),
      bias("mlp", "ff/up_bias", "mlp.up_proj.bias", same),
      bias("mlp", "ff/down_bias", "mlp.down_proj.bias", same),
    ),
  ]
