"""Reading a config.json of theirs: what is missing, unknown or unlike ours is told."""

import math

from lm.errors import Mistake

# Of ours -> of theirs; "silu" in a gated feed-forward is "swiglu".
ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_tanh": "gelu_new",
  "relu": "relu",
  "swiglu": "silu",
  "geglu": "gelu_pytorch_tanh",
}
# The same function under another name.
SAME = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "swish": "silu"}
# Keys of `rope_parameters` (or "rope_scaling") -> ours, by type.
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


class Theirs(dict):
  """A config.json; asking for a key that it lacks is the user's error.

  `names` are those of the tensors that come with it, None where they are to be written.
  """

  def __init__(self, told, names=None):
    super().__init__(told)
    self.names = getattr(told, "names", None) if names is None else frozenset(names)

  def over(self, defaults: dict) -> "Theirs":
    """With these values for the keys that it lacks."""
    return Theirs(defaults | self, self.names)

  def has(self, name: str, absent: bool) -> bool:
    """Whether a tensor with such an end of its name comes with it, if that is known."""
    if self.names is None:
      return absent
    return any(each.endswith(name) for each in self.names)

  def __missing__(self, key):
    raise Mistake(
      f"config.json of a {self.get('model_type', 'model')!r} lacks {key!r}; it is not "
      "whole, or of another type"
    )

  def needs(self, **values):
    """Raises Mistake unless these keys have these values, or are absent."""
    for key, value in values.items():
      if key in self and self[key] != value:
        raise Mistake(
          f"{key}={self[key]!r} in config.json is not built here; wanted {value!r}"
        )

  def size(self, key: str, absent: int | None = None) -> int:
    """A whole number from 1 up; `absent` where there is none."""
    value = self[key] if absent is None else self.get(key)
    value = absent if value is None else value
    if type(value) is not int or not 0 < value < 2**31:
      raise Mistake(f"{key}={value!r} in config.json; wanted a whole number above 0")
    return value


def activation(name: str, *, gated: bool) -> str:
  """Ours for an activation function of theirs."""
  names = {"silu": "swiglu", "gelu_new": "geglu"} if gated else {
    theirs: ours
    for ours, theirs in ACTIVATIONS.items()
    if ours not in ("swiglu", "geglu")
  }  # fmt: skip
  theirs = SAME.get(name, name)
  if theirs not in names:
    kind = " in a gated feed-forward" if gated else ""
    raise Mistake(f"no activation {name!r}{kind} here; known: {', '.join(names)}")
  return names[theirs]


def rope(theirs: Theirs, theta: float = 10_000.0) -> dict:
  """Our fields for the rotary positions of a config.json, of either generation.

  `theta` is the base where the file names none. Raises Mistake for a kind that is
  not built here.
  """
  told = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
  if not isinstance(told, dict) or any(isinstance(v, dict) for v in told.values()):
    raise Mistake(f"rope_parameters {told!r} in config.json; wanted one kind for all")
  kind = told.get("rope_type", told.get("type", "default"))
  base = told.get("rope_theta", theirs.get("rope_theta"))
  fields = {"theta": float(theta if base is None else base)}
  if kind not in SCALINGS:
    known = ", ".join(SCALINGS)
    raise Mistake(f"no rope_type {kind!r} here; known: {known}")
  if kind == "default":
    return fields
  fields |= {"scaling": kind}
  for key, ours in SCALINGS[kind].items():
    if told.get(key) is not None:
      fields[ours] = told[key]
  if kind == "yarn":
    _check_yarn(told, fields, theirs)
  return fields


def _check_yarn(told: dict, fields: dict, theirs: Theirs):
  fields.setdefault("high_turns", 32.0)
  fields.setdefault("low_turns", 1.0)
  fields.setdefault("original_context", theirs["max_position_embeddings"])
  if told.get("truncate") is False:
    raise Mistake("rope_parameters with truncate=false is not built here")
  if told.get("mscale") and told.get("mscale_all_dim"):

    def scaled(m):
      return 0.1 * m * math.log(fields["factor"]) + 1

    ratio = scaled(told["mscale"]) / scaled(told["mscale_all_dim"])
    fields.setdefault("attention_factor", ratio)


def rope_of(fields: dict) -> dict:
  """`rope_parameters` of theirs for ours."""
  kind = fields["scaling"].replace("none", "default")
  if kind not in SCALINGS:
    raise Mistake(f"scaling={fields['scaling']!r} has no name in a config.json")
  told = {"rope_type": kind, "rope_theta": fields["theta"]}
  told |= {key: fields[ours] for key, ours in SCALINGS[kind].items()}
  if not told.get("attention_factor", 1):
    del told["attention_factor"]
  return told
