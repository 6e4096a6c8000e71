"""Mamba-2 of Hugging Face: five of our matrices in one, three convolutions in one."""

from lm.errors import Mistake
from lm.stores.hf.config import Theirs
from lm.stores.hf.engine import layers, row
from lm.stores.hf.reshape import beside, columns, flat, rows, same, taps, turned

FAMILY, PREFIX, IGNORED = "mamba2", "backbone.", ""
DEFAULTS = dict(layer_norm_epsilon=1e-5, tie_word_embeddings=False, expand=2)


def config(theirs: Theirs) -> dict:
  """The flat fields of our model."""
  theirs = theirs.over(DEFAULTS)
  theirs.needs(use_bias=False, use_conv_bias=True, hidden_act="silu")
  heads, width = theirs.size("num_heads"), theirs.size("hidden_size")
  theirs.needs(head_dim=theirs.size("expand") * width // heads)
  low, high = theirs.get("time_step_limit", [0.0, "Infinity"])
  # Infinity has no JSON; some write it as a float all the same, some as an object.
  if low != 0 or (isinstance(high, int | float) and high < 1e9):
    raise Mistake(
      f"time_step_limit={[low, high]} in config.json is not built here; wanted none"
    )
  return dict(
    vocab=theirs.size("vocab_size"),
    width=width,
    layers=theirs.size("num_hidden_layers"),
    heads=heads,
    expand=theirs.size("expand"),
    state=theirs.size("state_size"),
    groups=theirs.size("n_groups"),
    taps=theirs.size("conv_kernel"),
    chunk=theirs.size("chunk_size", 256),
    eps=theirs["layer_norm_epsilon"],
    tied=theirs["tie_word_embeddings"],
  )


def theirs(fields: dict) -> dict:
  """config.json for a model of ours."""
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


def table(theirs: Theirs) -> list:
  V = theirs["vocab_size"]
  inputs = " ".join(f"mixer/{name}" for name in ("gate", "x", "b", "c", "dt"))
  conv = lambda what: " ".join(f"mixer/conv_{name}/{what}" for name in "xbc")
  return [
    row("embed/table", "backbone.embeddings.weight", rows(V)),
    row("norm/scale", "backbone.norm_f.weight", same),
    row("head/table", "lm_head.weight", columns(V)),
    *layers(
      "blocks/layer/",
      "backbone.layers.{}.",
      ("norm/scale", "norm.weight", same),
      (inputs, "mixer.in_proj.weight", beside(0, *[turned()] * 5)),
      (conv("taps"), "mixer.conv1d.weight", beside(0, *[taps] * 3)),
      (conv("bias"), "mixer.conv1d.bias", beside(0, *[flat] * 3)),
      ("mixer/dt_bias", "mixer.dt_bias", same),
      ("mixer/log_rate", "mixer.A_log", same),
      ("mixer/skip", "mixer.D", same),
      ("mixer/norm_scale", "mixer.norm.weight", flat),
      ("mixer/out", "mixer.out_proj.weight", turned(2)),
    ),
  ]
