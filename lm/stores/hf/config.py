"""A config.json of Hugging Face, read key by key; values not supported are refused.

Also what several families translate alike: activations and rotary positions.
"""

import math

from lm.errors import Mistake

# Our activation -> Hugging Face's; "silu" in a gated feed-forward is "swiglu".
ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_tanh": "gelu_new",
  "relu": "relu",
  "silu": "silu",
  "swiglu": "silu",
  "geglu": "gelu_pytorch_tanh",
}
GATED = {"silu": "swiglu", "gelu_new": "geglu"}
# The same function under another name.
ALIASES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "swish": "silu"}
# By rope_type: key of `rope_parameters` (or "rope_scaling") -> our field.
SCALINGS = {
  "default": {},
  "linear": {"factor": "factor"},
  "llama3": {
    "factor": "factor",
    "low_freq_factor": "low_turns",
    "high_freq_factor": "high_turns",
    "original_max_position_embeddings": "original_context",
  },
  "yarn": {
    "factor": "factor",
    "beta_slow": "low_turns",
    "beta_fast": "high_turns",
    "original_max_position_embeddings": "original_context",
    "attention_factor": "attention_factor",
  },
}


class HfConfig(dict):
  """The values of a config.json; a key that it lacks is the user's mistake.

  `names` are those of the checkpoint's tensors, None on export.
  """

  def __init__(self, values, names=None):
    super().__init__(values)
    self.names = getattr(values, "names", None) if names is None else frozenset(names)

  def with_defaults(self, defaults: dict) -> "HfConfig":
    """Returns the config with values for the keys that it lacks."""
    return HfConfig(defaults | self, self.names)

  def has_tensor(self, suffix: str, default: bool) -> bool:
    """True if the checkpoint has a tensor whose name ends in `suffix`.

    `default` when the tensor names are unknown, on export.
    """
    if self.names is None:
      return default
    return any(name.endswith(suffix) for name in self.names)

  def __missing__(self, key):
    raise Mistake(
      f"config.json of a {self.get('model_type', 'model')!r} lacks {key!r}; it is not "
      "whole, or of another type"
    )

  def require(self, **values):
    """Raises Mistake unless these keys have these values, or are absent."""
    for key, value in values.items():
      if key in self and self[key] != value:
        raise Mistake(
          f"{key}={self[key]!r} in config.json is not built here; wanted {value!r}"
        )

  def size(self, key: str, default: int | None = None) -> int:
    """Returns a whole number above 0; `default` where the key is absent or null.

    Raises Mistake when the value is anything else, or absent without a default.
    """
    value = self[key] if default is None else self.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value < 2**31:
      raise Mistake(f"{key}={value!r} in config.json; wanted a whole number above 0")
    return value


def activation(name: str, *, gated: bool) -> str:
  """Returns our name of an activation function; Mistake lists those that exist."""
  plain = {hf: ours for ours, hf in ACTIVATIONS.items() if ours not in GATED.values()}
  names = GATED if gated else plain
  hf_name = ALIASES.get(name, name)
  if hf_name not in names:
    place = " in a gated feed-forward" if gated else ""
    raise Mistake(f"no activation {name!r}{place} here; known: {', '.join(names)}")
  return names[hf_name]


def rope(hf: HfConfig, theta: float = 10_000.0) -> dict:
  """Returns our fields for the rotary positions of a config.json, old style or new.

  `theta` is the base where the file names none. Raises Mistake for a rope_type that is
  not supported.
  """
  params = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
  if not isinstance(params, dict) or any(isinstance(v, dict) for v in params.values()):
    raise Mistake(f"rope_parameters {params!r} in config.json; wanted one kind for all")
  kind = params.get("rope_type", params.get("type", "default"))
  base = params.get("rope_theta", hf.get("rope_theta"))
  fields = {"theta": float(theta if base is None else base)}
  if kind not in SCALINGS:
    raise Mistake(f"no rope_type {kind!r} here; known: {', '.join(SCALINGS)}")
  if kind == "default":
    return fields
  fields |= {"scaling": kind}
  for key, field in SCALINGS[kind].items():
    if params.get(key) is not None:
      fields[field] = params[key]
  if kind == "yarn":
    _complete_yarn(params, fields, hf)
  return fields


def _complete_yarn(params: dict, fields: dict, hf: HfConfig):
  """Fills in YaRN's defaults; Mistake for a variant that is not supported."""
  fields.setdefault("high_turns", 32.0)
  fields.setdefault("low_turns", 1.0)
  fields.setdefault("original_context", hf["max_position_embeddings"])
  if params.get("truncate") is False:
    raise Mistake("rope_parameters with truncate=false is not built here")
  if params.get("mscale") and params.get("mscale_all_dim"):

    def scaled(mscale):
      return 0.1 * mscale * math.log(fields["factor"]) + 1

    ratio = scaled(params["mscale"]) / scaled(params["mscale_all_dim"])
    fields.setdefault("attention_factor", ratio)


def rope_parameters(fields: dict) -> dict:
  """Returns `rope_parameters` of a config.json for our fields."""
  kind = fields["scaling"].replace("none", "default")
  if kind not in SCALINGS:
    raise Mistake(f"scaling={fields['scaling']!r} has no name in a config.json")
  params = {"rope_type": kind, "rope_theta": fields["theta"]}
  params |= {key: fields[field] for key, field in SCALINGS[kind].items()}
  if not params.get("attention_factor", 1):
    del params["attention_factor"]
  return params
