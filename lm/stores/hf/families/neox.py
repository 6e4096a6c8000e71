"""GPT-NeoX and Pythia of Hugging Face: q, k and v are one matrix, head by head."""

from lm.stores.hf import last_head
from lm.stores.hf.config import ACTIVATIONS, HfConfig, activation, rope, rope_parameters
from lm.stores.hf.mapping import layers, linear, norm, row
from lm.stores.hf.reshape import by_head, columns, rows, transposed

MODEL_TYPES = ("gpt_neox",)
FAMILY, PREFIX = "decoder", "gpt_neox."
IGNORED = r"attention\.(masked_bias|bias|rotary_emb\.inv_freq)$"  # masks, and angles
DEFAULTS = dict(
  hidden_act="gelu",
  layer_norm_eps=1e-5,
  tie_word_embeddings=False,
  use_parallel_residual=True,
  rotary_pct=0.25,
)
HEAD = "embed_out.weight"


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  hf.require(attention_bias=True)
  params = hf.get("rope_parameters") or {}
  base = hf.get("rotary_emb_base", 10_000.0)
  return dict(
    vocab=hf.size("vocab_size"),
    context=hf.size("max_position_embeddings"),
    width=hf.size("hidden_size"),
    layers=hf.size("num_hidden_layers"),
    heads=hf.size("num_attention_heads"),
    ff=hf.size("intermediate_size"),
    activation=activation(hf["hidden_act"], gated=False),
    eps=hf["layer_norm_eps"],
    norm="layer",
    bias=True,
    tied=hf["tie_word_embeddings"],
    order="parallel" if hf["use_parallel_residual"] else "before",
    rotary_share=params.get("partial_rotary_factor", hf["rotary_pct"]),
    **rope(hf, base),
    **last_head.fields(hf),
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  share = {"partial_rotary_factor": fields["rotary_share"]}
  return dict(
    model_type="gpt_neox",
    **last_head.to_hf(fields, "GPTNeoX", "ForCausalLM"),
    vocab_size=fields["vocab"],
    max_position_embeddings=fields["context"],
    hidden_size=fields["width"],
    num_hidden_layers=fields["layers"],
    num_attention_heads=fields["heads"],
    intermediate_size=fields["ff"],
    hidden_act=ACTIVATIONS[fields["activation"]],
    layer_norm_eps=fields["eps"],
    tie_word_embeddings=fields["tied"],
    use_parallel_residual=fields["order"] == "parallel",
    rope_parameters=rope_parameters(fields) | share,
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V = hf["vocab_size"]
  qkv = "attention/q attention/k attention/v"
  qkv_bias = "attention/q_bias attention/k_bias attention/v_bias"
  return [
    row("embed/table", "gpt_neox.embed_in.weight", rows(V)),
    row("head/table", HEAD, columns(V)),
    last_head.classifier(),
    *layers("", "", *norm("norm", "gpt_neox.final_layer_norm")),
    *layers(
      "blocks/layer/",
      "gpt_neox.layers.{}.",
      *norm("attention_norm", "input_layernorm"),
      (qkv, "attention.query_key_value.weight", by_head(3)),
      (qkv_bias, "attention.query_key_value.bias", by_head(3)),
      *linear("attention/o", "attention.dense", transposed(2)),
      *norm("ff_norm", "post_attention_layernorm"),
      *linear("ff/up", "mlp.dense_h_to_4h", transposed()),
      *linear("ff/down", "mlp.dense_4h_to_h", transposed()),
    ),
  ]
