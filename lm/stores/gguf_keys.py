"""The keys of a GGUF file that decide its numbers: none is passed over in silence.

A key of the file's architecture is read here by its type, has a value that changes
nothing, is about something else than the logits, or is refused by its name.
"""

import math

import numpy as np

from lm.errors import Mistake

LARGEST = 2**31 - 1
# Keys that no logit depends on; llama.cpp reads none of them for these architectures.
HARMLESS = (
  "tensor_data_layout",
  "pooling_type",
  "rope.scaling.finetuned",
  "attention.layer_norm_epsilon",  # of models whose norms have a mean
)
# The values that change nothing, of keys that are not read. Of any other it is 0.
NEUTRAL = {
  "attention.causal": (True,),
  "attention.output_scale": (0, 1),
  "logit_scale": (0, 1),
  "residual_scale": (0, 1),
  "embedding_scale": (0, 1),
  "expert_weights_scale": (0, 1),
  "rope.scaling.yarn_ext_factor": (-1, 1),
  "rope.scaling.yarn_attn_factor": (1,),
}


class Keys:
  """The keys of one architecture, without its name in front.

  `size`, `number` and `text` return a value, or the default where there is no key;
  without a default the key is needed. Raises Mistake for a value of another type. An
  array with a value for each layer has to have the same for all.
  """

  def __init__(self, path, architecture: str, fields: dict):
    prefix = f"{architecture}."
    self._path, self._prefix = path, prefix
    self._values = {
      key.removeprefix(prefix): value
      for key, value in fields.items()
      if key.startswith(prefix)
    }
    self._read = set()

  def size(self, key: str, default: int | None = None) -> int:
    """Returns a whole number above 0, or the default, which may be 0 for none."""
    value = self._value(key, default)
    least = 1 if default != 0 else 0
    if type(value) is not int or not least <= value <= LARGEST:
      self.refuse(key, value, f"wanted a whole number from {least}")
    return value

  def number(self, key: str, default: float | None = None) -> float:
    """Returns a number, as short as a config.json has it: 1e-5, not 9.99999974e-06."""
    value = self._value(key, default)
    if type(value) not in (int, float) or not math.isfinite(value):
      self.refuse(key, value, "wanted a number")
    return float(str(np.float32(value)))

  def text(self, key: str, default: str) -> str:
    """Returns a string."""
    value = self._value(key, default)
    if not isinstance(value, str):
      self.refuse(key, value, "wanted a string")
    return value

  def _value(self, key: str, default):
    self._read.add(key)
    value = self._values.get(key, default)
    if value is None:
      raise Mistake(
        f"{self._path} does not say {self._prefix + key!r}; it is not whole"
      )
    if isinstance(value, list):
      if len(value) != self._values.get("block_count"):
        self.refuse(key, value, "wanted one value, or one for each layer")
      if any(other != value[0] for other in value):
        self.refuse(key, value, "layers that differ in it are not built here")
      value = value[0]
    return value

  def refuse_others(self, neutral: dict):
    """Raises Mistake for a key that was not read and could change the numbers.

    `neutral` has more values that change nothing, as NEUTRAL.
    """
    neutral = NEUTRAL | neutral
    for key, value in self._values.items():
      if key in self._read or key in HARMLESS:
        continue
      allowed = neutral.get(key, (0,))
      is_number = isinstance(value, int | float)
      if not is_number or not any(
        math.isclose(value, n, rel_tol=1e-6) for n in allowed
      ):
        self.refuse(key, value, "which is not built here for this architecture")

  def refuse(self, key: str, value, reason: str):
    """Raises Mistake for the value of a key."""
    shown = repr(value)
    shown = shown if len(shown) < 40 else f"{shown[:36]}..."
    raise Mistake(f"{self._path} has {self._prefix}{key}={shown}; {reason}")


def rope_parameters(keys: Keys, context: int) -> dict:
  """Returns the `rope_parameters` that a config.json would have.

  As llama.cpp (llama_model::load_hparams): a factor without a type is linear, and the
  older name of the factor counts where the newer one is missing. Its attention factor
  multiplies YaRN's own, 0.1 log(factor) + 1 (llama_context).
  """
  rope = {"rope_theta": keys.number("rope.freq_base", 10_000.0)}
  kind = keys.text("rope.scaling.type", "linear")
  older = keys.number("rope.scale_linear", 0.0)
  factor = keys.number("rope.scaling.factor", older)
  original = keys.size("rope.scaling.original_context_length", context)
  attention = keys.number("rope.scaling.attn_factor", 1.0)
  fast = keys.number("rope.scaling.yarn_beta_fast", 32.0)
  slow = keys.number("rope.scaling.yarn_beta_slow", 1.0)
  if kind not in ("none", "linear", "yarn"):
    keys.refuse("rope.scaling.type", kind, "known: none, linear, yarn")
  scaled = kind != "none" and factor not in (0, 1)
  if attention != 1 and not (scaled and kind == "yarn"):
    keys.refuse("rope.scaling.attn_factor", attention, "built with yarn alone")
  if not scaled:
    return rope
  if factor < 0:
    keys.refuse("rope.scaling.factor", factor, "wanted a number above 0")
  rope |= {"rope_type": kind, "factor": factor}
  if kind == "yarn":
    rope |= {"beta_fast": fast, "beta_slow": slow}
    rope |= {"original_max_position_embeddings": original}
    if attention != 1:
      rope |= {"attention_factor": attention * (0.1 * math.log(factor) + 1)}
  return rope


def rope_keys(params: dict) -> dict:
  """Returns the keys of `rope_parameters`: the inverse of the function above.

  Llama 3's scaling is no key but a tensor, see gguf.py.
  """
  keys, kind = {"rope.freq_base": float(params["rope_theta"])}, params["rope_type"]
  if kind not in ("linear", "yarn"):
    return keys
  factor = float(params["factor"])
  keys |= {"rope.scaling.type": kind, "rope.scaling.factor": factor}
  if kind == "yarn":
    original = params["original_max_position_embeddings"]
    keys["rope.scaling.original_context_length"] = original
    keys["rope.scaling.yarn_beta_fast"] = float(params["beta_fast"])
    keys["rope.scaling.yarn_beta_slow"] = float(params["beta_slow"])
    if attention := params.get("attention_factor"):
      keys["rope.scaling.attn_factor"] = attention / (0.1 * math.log(factor) + 1)
  return keys
