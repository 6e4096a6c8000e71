"""OLMo 2 of Hugging Face: a Llama with norms after sublayers and over all heads."""

from lm.stores.hf import last_head
from lm.stores.hf.config import HfConfig, activation, rope, rope_parameters
from lm.stores.hf.families import llama
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import columns, rows, same

MODEL_TYPES = ("olmo2",)
FAMILY, PREFIX, IGNORED = llama.FAMILY, llama.PREFIX, llama.IGNORED
DEFAULTS = llama.DEFAULTS | dict(rms_norm_eps=1e-5)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  hf.require(attention_bias=False)
  return llama.sizes(hf) | dict(
    activation=activation(hf["hidden_act"], gated=True),
    eps=hf["rms_norm_eps"],
    tied=hf["tie_word_embeddings"],
    order="after",
    qk_norm="width",
    **rope(hf),
    **last_head.fields(hf),
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return llama.sizes_to_hf(fields) | dict(
    model_type="olmo2",
    **last_head.to_hf(fields, "Olmo2", "ForCausalLM"),
    hidden_act={"swiglu": "silu"}[fields["activation"]],
    rms_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
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
      *llama.ATTENTION,
      ("attention/q_norm/scale", "self_attn.q_norm.weight", same),
      ("attention/k_norm/scale", "self_attn.k_norm.weight", same),
      ("attention_norm/scale", "post_attention_layernorm.weight", same),
      *llama.FEED_FORWARD,
      ("ff_norm/scale", "post_feedforward_layernorm.weight", same),
    ),
  ]
