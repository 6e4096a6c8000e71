"""Mixtral of Hugging Face: a Llama with experts for a feed-forward."""

from lm.stores.hf import last_head
from lm.stores.hf.config import HfConfig, activation, rope, rope_parameters
from lm.stores.hf.families import llama
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import columns, rows, same, transposed

MODEL_TYPES = ("mixtral",)
FAMILY, PREFIX, IGNORED = llama.FAMILY, llama.PREFIX, llama.IGNORED
DEFAULTS = llama.DEFAULTS | dict(rms_norm_eps=1e-5)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  return llama.sizes(hf) | dict(
    activation=activation(hf["hidden_act"], gated=True),
    eps=hf["rms_norm_eps"],
    tied=hf["tie_word_embeddings"],
    window=hf.get("sliding_window") or 0,
    experts=hf.size("num_local_experts"),
    top_k=hf.size("num_experts_per_tok"),
    **rope(hf, 1e6),
    **last_head.fields(hf),
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return llama.sizes_to_hf(fields) | dict(
    model_type="mixtral",
    **last_head.to_hf(fields, "Mixtral", "ForCausalLM"),
    hidden_act={"swiglu": "silu"}[fields["activation"]],
    rms_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
    sliding_window=fields["window"] or None,
    num_local_experts=fields["experts"],
    num_experts_per_tok=fields["top_k"],
    rope_parameters=rope_parameters(fields),
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V = hf["vocab_size"]
  return [
    row("embed/table", "model.embed_tokens.weight", rows(V)),
    row("norm/scale", "model.norm.weight", same),
    row("head/table", "lm_head.weight", columns(V)),
    last_head.classifier(),
    *layers(
      "blocks/layer/",
      "model.layers.{}.",
      ("attention_norm/scale", "input_layernorm.weight", same),
      *llama.ATTENTION,
      ("ff_norm/scale", "post_attention_layernorm.weight", same),
      ("ff/router", "block_sparse_moe.gate.weight", transposed()),
      ("ff/gate", "block_sparse_moe.experts.{}.w1.weight", transposed()),
      ("ff/up", "block_sparse_moe.experts.{}.w3.weight", transposed()),
      ("ff/down", "block_sparse_moe.experts.{}.w2.weight", transposed()),
    ),
  ]
