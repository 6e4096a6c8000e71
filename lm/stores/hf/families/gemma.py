"""Gemma 2 and 3 (text) of Hugging Face: four norms a layer, told as offsets from 1."""

from lm.errors import Mistake
from lm.stores.hf.config import Theirs, rope, rope_of
from lm.stores.hf.engine import layers, row
from lm.stores.hf.families import llama
from lm.stores.hf.reshape import rows, same

FAMILY, PREFIX = "gemma", "model."
IGNORED = llama.IGNORED
DEFAULTS = dict(
  hidden_activation="gelu_pytorch_tanh",
  rms_norm_eps=1e-6,
  attn_logit_softcapping=None,
  final_logit_softcapping=None,
)
# What the files of before `layer_types` and `rope_parameters` say in their place.
EVERY = {"gemma2": 2, "gemma3_text": 6}


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  third = theirs["model_type"] == "gemma3_text"
  theirs = theirs.over(DEFAULTS)
  theirs.needs(
    hidden_activation="gelu_pytorch_tanh",
    attention_bias=False,
    tie_word_embeddings=True,
  )
  if theirs.get("use_bidirectional_attention"):
    raise Mistake("use_bidirectional_attention in config.json is not built here")
  far, near = theirs, theirs.get("rope_local_base_freq", 10_000.0)
  both = theirs.get("rope_parameters") or {}
  if "full_attention" in both:
    far = Theirs(theirs | {"rope_parameters": both["full_attention"]})
    near = rope(Theirs({"rope_parameters": both["sliding_attention"]}))["theta"]
  angles = rope(far, 1e6 if third else 10_000.0)
  return llama.sizes(theirs) | dict(
    eps=theirs["rms_norm_eps"],
    window=theirs.size("sliding_window"),
    score_size=theirs.size("query_pre_attn_scalar"),
    softcap=theirs["attn_logit_softcapping"] or 0.0,
    logit_softcap=theirs["final_logit_softcapping"] or 0.0,
    global_every=_every(theirs),
    qk_norm="head" if third else "none",
    local_theta=float(near) if third else angles["theta"],
    **angles,
  )


def _every(theirs: Theirs) -> int:
  """Every so many-th layer sees everything; Mistake when there is no such number."""
  every = theirs.get("sliding_window_pattern", EVERY[theirs["model_type"]])
  kinds = theirs.get("layer_types")
  if kinds is None:
    return every
  full = "full_attention"
  every = 1 + kinds.index(full) if full in kinds else max(every, len(kinds) + 1)
  regular = [full if l % every == 0 else "sliding_attention" for l in _from_1(kinds)]
  if kinds != regular:
    raise Mistake("layer_types in config.json follow no rule that is built here")
  return every


def _from_1(kinds):
  return range(1, len(kinds) + 1)


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
  third = fields["qk_norm"] == "head"
  full, local = rope_of(fields), {"rope_theta": fields["local_theta"]}
  angles = {"full_attention": full}
  angles["sliding_attention"] = {"rope_type": "default"} | local
  every = fields["global_every"]
  return llama.sizes_of(fields) | dict(
    model_type="gemma3_text" if third else "gemma2",
    architectures=["Gemma3ForCausalLM" if third else "Gemma2ForCausalLM"],
    hidden_activation="gelu_pytorch_tanh",
    rms_norm_eps=fields["eps"],
    sliding_window=fields["window"],
    query_pre_attn_scalar=fields["score_size"] or fields["head_size"],
    attn_logit_softcapping=fields["softcap"] or None,
    final_logit_softcapping=fields["logit_softcap"] or None,
    layer_types=[
      "full_attention" if l % every == 0 else "sliding_attention"
      for l in range(1, fields["layers"] + 1)
    ],
    rope_parameters=angles if third else full,
    tie_word_embeddings=True,
  )


def table(theirs: Theirs) -> list:
  return [
    row("embed/table", "model.embed_tokens.weight", rows(theirs["vocab_size"])),
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
      *llama.FEED,
      ("ff_out_norm/offset", "post_feedforward_layernorm.weight", same),
    ),
  ]
