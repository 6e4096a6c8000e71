"""GPT-NeoX and Pythia of Hugging Face: q, k and v are one matrix, by heads."""

from lm.stores.hf.config import ACTIVATIONS, Theirs, activation, rope, rope_of
from lm.stores.hf.engine import layers, linear, norm, row
from lm.stores.hf.reshape import by_head, columns, rows, turned

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


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  theirs.needs(attention_bias=True)
  told = theirs.get("rope_parameters") or {}
  base = theirs.get("rotary_emb_base", 10_000.0)
  return dict(
    vocab=theirs.size("vocab_size"),
    context=theirs.size("max_position_embeddings"),
    width=theirs.size("hidden_size"),
    layers=theirs.size("num_hidden_layers"),
    heads=theirs.size("num_attention_heads"),
    ff=theirs.size("intermediate_size"),
    activation=activation(theirs["hidden_act"], gated=False),
    eps=theirs["layer_norm_eps"],
    norm="layer",
    bias=True,
    tied=theirs["tie_word_embeddings"],
    order="parallel" if theirs["use_parallel_residual"] else "before",
    rotary_share=told.get("partial_rotary_factor", theirs["rotary_pct"]),
    **rope(theirs, base),
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  share = {"partial_rotary_factor": fields["rotary_share"]}
  return dict(
    model_type="gpt_neox",
    architectures=["GPTNeoXForCausalLM"],
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
    rope_parameters=rope_of(fields) | share,
  )


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  qkv = "attention/q attention/k attention/v"
  qkv_bias = "attention/q_bias attention/k_bias attention/v_bias"
  return [
    row("embed/table", "gpt_neox.embed_in.weight", rows(V)),
    row("head/table", HEAD, columns(V)),
    *layers("", "", *norm("norm", "gpt_neox.final_layer_norm")),
    *layers(
      "blocks/layer/",
      "gpt_neox.layers.{}.",
      *norm("attention_norm", "input_layernorm"),
      (qkv, "attention.query_key_value.weight", by_head(3)),
      (qkv_bias, "attention.query_key_value.bias", by_head(3)),
      *linear("attention/o", "attention.dense", turned(2)),
      *norm("ff_norm", "post_attention_layernorm"),
      *linear("ff/up", "mlp.dense_h_to_4h", turned()),
      *linear("ff/down", "mlp.dense_4h_to_h", turned()),
    ),
  ]
