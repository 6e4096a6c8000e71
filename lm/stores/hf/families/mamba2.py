"""Mamba-2 of Hugging Face: five matrices and three convolutions are concatenated."""

from lm.errors import Mistake
from lm.stores.hf.config import HfConfig
from lm.stores.hf.mapping import layers, row
from lm.stores.hf.reshape import (
  columns,
  concatenated,
  flat,
  rows,
  same,
  taps,
  transposed,
)

MODEL_TYPES = ("mamba2",)
FAMILY, PREFIX, IGNORED = "mamba2", "backbone.", ""
DEFAULTS = dict(layer_norm_epsilon=1e-5, tie_word_embeddings=False, expand=2)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  hf.require(use_bias=False, use_conv_bias=True, hidden_act="silu")
  heads, width = hf.size("num_heads"), hf.size("hidden_size")
  hf.require(head_dim=hf.size("expand") * width // heads)
  low, high = hf.get("time_step_limit", [0.0, "Infinity"])
  # JSON has no infinity; some files have a float all the same, some an object.
  if low != 0 or (isinstance(high, int | float) and high < 1e9):
    raise Mistake(
      f"time_step_limit={[low, high]} in config.json is not built here; wanted none"
    )
  return dict(
    vocab=hf.size("vocab_size"),
    width=width,
    layers=hf.size("num_hidden_layers"),
    heads=heads,
    expand=hf.size("expand"),
    state=hf.size("state_size"),
    groups=hf.size("n_groups"),
    taps=hf.size("conv_kernel"),
    chunk=hf.size("chunk_size", 256),
    eps=hf["layer_norm_epsilon"],
    tied=hf["tie_word_embeddings"],
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return dict(
    model_type="mamba2",
    architectures=["Mamba2ForCausalLM"],
    vocab_size=fields["vocab"],
    hidden_size=fields["width"],
    num_hidden_layers=fields["layers"],
    num_heads=fields["heads"],
    head_dim=fields["expand"] * fields["width"] // fields["heads"],
    expand=fields["expand"],
    state_size=fields["state"],
    n_groups=fields["groups"],
    conv_kernel=fields["taps"],
    layer_norm_epsilon=fields["eps"],
    tie_word_embeddings=fields["tied"],
  )


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  V = hf["vocab_size"]
  inputs = " ".join(f"mixer/{name}" for name in ("gate", "x", "b", "c", "dt"))
  taps_paths, bias_paths = (
    " ".join(f"mixer/conv_{name}/{part}" for name in "xbc") for part in ("taps", "bias")
  )
  return [
    row("embed/table", "backbone.embeddings.weight", rows(V)),
    row("norm/scale", "backbone.norm_f.weight", same),
    row("head/table", "lm_head.weight", columns(V)),
    *layers(
      "blocks/layer/",
      "backbone.layers.{}.",
      ("norm/scale", "norm.weight", same),
      (inputs, "mixer.in_proj.weight", concatenated(0, *[transposed()] * 5)),
      (taps_paths, "mixer.conv1d.weight", concatenated(0, *[taps] * 3)),
      (bias_paths, "mixer.conv1d.bias", concatenated(0, *[flat] * 3)),
      ("mixer/dt_bias", "mixer.dt_bias", same),
      ("mixer/log_rate", "mixer.A_log", same),
      ("mixer/skip", "mixer.D", same),
      ("mixer/norm_scale", "mixer.norm.weight", flat),
      ("mixer/out", "mixer.out_proj.weight", transposed(2)),
    ),
  ]
