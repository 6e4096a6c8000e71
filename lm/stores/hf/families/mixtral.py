"""Mixtral of Hugging Face: a Llama whose feed-forward is one of several experts."""

from lm.stores.hf.config import Theirs, activation, rope, rope_of
from lm.stores.hf.engine import layers, row
from lm.stores.hf.families import llama
from lm.stores.hf.reshape import columns, rows, same, turned

FAMILY, PREFIX, IGNORED = llama.FAMILY, llama.PREFIX, llama.IGNORED
DEFAULTS = llama.DEFAULTS | dict(rms_norm_eps=1e-5)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  return llama.sizes(theirs) | dict(
    activation=activation(theirs["hidden_act"], gated=True),
    eps=theirs["rms_norm_eps"],
    tied=theirs["tie_word_embeddings"],
    window=theirs.get("sliding_window") or 0,
    experts=theirs.size("num_local_experts"),
    top_k=theirs.size("num_experts_per_tok"),
    **rope(theirs, 1e6),
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return llama.sizes_of(fields) | dict(
    model_type="mixtral",
    architectures=["MixtralForCausalLM"],
    hidden_act={"swiglu": "silu"}[fields["activation"]],
    rms_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
    sliding_window=fields["window"] or None,
    num_local_experts=fields["experts"],
    num_experts_per_tok=fields["top_k"],
    rope_parameters=rope_of(fields),
  )


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  return [
    row("embed/table", "model.embed_tokens.weight", rows(V)),
    row("norm/scale", "model.norm.weight", same),
    row("head/table", "lm_head.weight", columns(V)),
    *layers(
      "blocks/layer/",
      "model.layers.{}.",
      ("attention_norm/scale", "input_layernorm.weight", same),
      *llama.ATTENTION,
      ("ff_norm/scale", "post_attention_layernorm.weight", same),
      ("ff/router", "block_sparse_moe.gate.weight", turned()),
      ("ff/gate", "block_sparse_moe.experts.{}.w1.weight", turned()),
      ("ff/up", "block_sparse_moe.experts.{}.w3.weight", turned()),
      ("ff/down", "block_sparse_moe.experts.{}.w2.weight", turned()),
    ),
  ]
