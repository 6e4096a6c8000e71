"""OLMo 2 of Hugging Face: a Llama with norms behind its layers, and of all heads."""

from lm.stores.hf.config import Theirs, activation, rope, rope_of
from lm.stores.hf.engine import layers, row
from lm.stores.hf.families import llama
from lm.stores.hf.reshape import columns, rows, same

FAMILY, PREFIX, IGNORED = llama.FAMILY, llama.PREFIX, llama.IGNORED
DEFAULTS = llama.DEFAULTS | dict(rms_norm_eps=1e-5)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  theirs.needs(attention_bias=False)
  return llama.sizes(theirs) | dict(
    activation=activation(theirs["hidden_act"], gated=True),
    eps=theirs["rms_norm_eps"],
    tied=theirs["tie_word_embeddings"],
    order="after",
    qk_norm="width",
    **rope(theirs),
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  return llama.sizes_of(fields) | dict(
    model_type="olmo2",
    architectures=["Olmo2ForCausalLM"],
    hidden_act={"swiglu": "silu"}[fields["activation"]],
    rms_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
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
      *llama.ATTENTION,
      ("attention/q_norm/scale", "self_attn.q_norm.weight", same),
      ("attention/k_norm/scale", "self_attn.k_norm.weight", same),
      ("attention_norm/scale", "post_attention_layernorm.weight", same),
      *llama.FEED,
      ("ff_norm/scale", "post_feedforward_layernorm.weight", same),
    ),
  ]
