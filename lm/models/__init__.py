"""Model families by name, and the contract that every family keeps.

A family is a file here with `PRESETS` (name -> fields of the Config), `Config` and
`Model`. Config is a frozen dataclass, which may hold others, with at least

  vocab: int                 the number of tokens, without a default
  context: int               the longest row; 0 means no limit
  run: lm.nn.depth.Run       how it is computed

Model is a linen module with a field `config` that extends `LanguageModel` with

  traits                     the family's abilities: `Traits`
  features(tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False)
                             -> `Features`; also the arrays that `traits.reads` names
  readout(x_BTD)             -> logits_BTV in float32
  init_cache(batch, size)    -> an empty cache, where `traits.decodes`

Positions count 0, 1, 2... from 0 in every segment; position -1 is padding, which no
other token sees. `segments_BT` numbers the documents of a packed row.

Parameters are float32, and `lm.letters.weight` creates them, in the family's own file
or in the layers of lm/nn: it gives each dimension its letter, by which parameters are
placed on a mesh, decayed by the optimiser and listed in a run's manifest. Those of
flax's `nn.Dense` and `nn.Embed` have no letters, and are refused.

Adding a file here adds a family.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from lm import lookup
from lm.errors import Mistake, suggestion


class Auxiliary(NamedTuple):
  """A loss of the model itself, a mean over tokens and layers (experts)."""

  loss: jax.Array | float  # `mean` times its weight: an objective adds it per token
  mean: jax.Array  # without the weight, as metrics report it


class Features(NamedTuple):
  """The result of `Model.features`."""

  x_BTD: jax.Array  # the input of the readout
  cache: Any = None  # the given cache with these tokens added; None without a cache
  losses: dict[str, Auxiliary] = {}  # noqa: RUF012 - never changed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traits:
  """The abilities of a family: every `Model` declares them, and tests/laws checks them.

  `sees` names the tokens that the features of a token depend on: "past" (it and those
  before it), "both" (all of its document), or "itself" alone.
  """

  sees: str = "past"
  decodes: bool = False  # continues a text: has `init_cache`
  source: bool = False  # reads source_BS and writes the text that follows from it
  carries: bool = False  # its cache has constant size and can go on to the next batch
  packs: bool = True  # segments_BT keeps the documents of a row apart
  reads: tuple[str, ...] = ("positions_BT", "segments_BT")  # besides tokens_BT
  head: tuple[str, ...] = ("head",)  # top-level parameters of the output head


READS = Traits().reads
SOURCE = ("source_BS", "source_segments_BS")
INPUTS = (*READS, "types_BT", *SOURCE)  # all that any family reads besides tokens_BT


class LanguageModel(nn.Module):
  """The methods that all families share; a family defines the rest of the contract."""

  config: Any
  traits = Traits()

  def __call__(self, tokens_BT, **inputs):
    """Returns (logits_BTV in float32, cache), the readout of `features`.

    V is the vocabulary, without its padding. `cache` is the given one with these
    tokens added, None without a cache. With head="classes", logits_BC.
    """
    features = self.features(tokens_BT, **inputs)
    if self.output == "classes":
      return self.classify(features.x_BTD, inputs.get("segments_BT")), features.cache
    logits_BTV = self.readout(features.x_BTD)
    return logits_BTV[..., : self.config.vocab], features.cache

  def source_to_read(self, source_BS, tokens_BT, *, is_cached: bool):
    """Returns source_BS; None if a cache has what decoding needs of an earlier one.

    Where parameters are drawn from tokens alone, these are the source. Raises Mistake
    without any.
    """
    if source_BS is None and self.is_initializing():
      return tokens_BT
    if source_BS is None and not is_cached:
      raise Mistake("an encoder-decoder reads a source: give source_BS")
    return source_BS

  @property
  def output(self) -> str:
    """The kind of its output head, the field `head`: "tokens" where it has no choice.

    One with "classes" has a method `classify` in place of `readout`.
    """
    task = getattr(self.config, "task", None)
    return "tokens" if task is None else task.head

  def word_vectors(self, params):
    """Returns vectors_VD of all tokens (V padded), from the parameters alone."""
    return params["embed"]["table"]


def build(family: str, *, preset: str = "", vocab: int, **fields) -> LanguageModel:
  """Returns the model of a family: the fields of a preset, overridden by `fields`.

  Fields are flat: `heads=8` is set in the group of the Config that has it. Raises
  Mistake for a family, a preset or a field that does not exist, and for values that do
  not fit together.

    model = build("decoder", preset="llama-tiny", vocab=2048, heads=8)
    params = letters.unbox(model.init(jax.random.key(0), tokens_BT)["params"])
    logits_BTV, _ = model.apply({"params": params}, tokens_BT)
  """
  module = _module(family)
  names = _names(module.Config)
  for field in fields:
    if field not in names:
      hint = suggestion(field, names, otherwise=f"it has {', '.join(names)}")
      raise Mistake(f"family {family!r} has no field {field!r}; {hint}")
  fields = preset_fields(family, preset) | fields | {"vocab": vocab}
  return module.Model(_config(module.Config, fields))


def traits(family: str) -> Traits:
  """Returns the Traits of a family; Mistake for one that does not exist."""
  return _module(family).Model.traits


def defaults(family: str, preset: str = "") -> dict[str, Any]:
  """Returns all flat fields of a family but `vocab`, with the values of the preset.

  `build(family, preset=preset, vocab=V)` equals `build(family, vocab=V, **defaults(
  family, preset))`. Raises Mistake as `build` does.
  """
  module = _module(family)
  return _defaults(module.Config) | preset_fields(family, preset)


def preset_fields(family: str, preset: str) -> dict[str, Any]:
  """Returns the flat fields that a preset gives, {} for ""; Mistake lists the presets.

  Folders of older runs have _ in place of the hyphens of a name.
  """
  presets, name = _module(family).PRESETS, preset.replace("_", "-")
  if name and name not in presets:
    names = ", ".join(presets)
    raise Mistake(f"no preset {preset!r} in family {family!r}; found: {names}")
  return presets.get(name, {})


def fields(model: LanguageModel) -> dict[str, Any]:
  """Returns the arguments of `build`, but for `vocab`, that make an equal model."""
  values = {"family": type(model).__module__.rpartition(".")[2]} | _flat(model.config)
  del values["vocab"]
  return values


def check_config(model) -> None:
  """Raises Mistake for a model whose Config lacks what training reads."""
  for name, kind in (("context", "int = 0"), ("run", "Run")):
    if not hasattr(model.config, name):
      family = type(model).__module__.rpartition(".")[2]
      raise Mistake(
        f"Config of lm/models/{family}.py has no field {name}: {kind}; "
        "lm/models/__init__.py says what a family needs"
      )


def _module(family: str):
  """Returns the file of a family; Mistake when it lacks a part of the contract."""
  module = lookup.find("lm.models", family)
  for name in ("Config", "PRESETS", "Model"):
    if not hasattr(module, name):
      raise Mistake(
        f"lm/models/{family}.py defines no {name}; lm/models/__init__.py says what a "
        "family needs"
      )
  return module


def _flat(config) -> dict:
  """Returns the values of a dataclass, and of those in it, by their flat names."""
  values = {}
  for f in dataclasses.fields(config):
    value = getattr(config, f.name)
    values |= _flat(value) if dataclasses.is_dataclass(value) else {f.name: value}
  return values


def _defaults(cls) -> dict:
  """Returns the flat defaults of a dataclass; groups may replace their class's own."""
  values = {}
  for f in dataclasses.fields(cls):
    if dataclasses.is_dataclass(f.type):
      values |= _flat(f.default_factory())
    elif f.default is not dataclasses.MISSING:
      values[f.name] = f.default
  return values


def _config(cls, fields: dict):
  """Returns a `cls` whose fields, and those of its groups, are taken from `fields`."""
  values = {}
  for f in dataclasses.fields(cls):
    if dataclasses.is_dataclass(f.type):
      group = f.default_factory()  # its defaults need not be those of its class
      given = {name: fields[name] for name in _names(f.type) if name in fields}
      values[f.name] = dataclasses.replace(group, **given)
    elif f.name in fields:
      values[f.name] = fields[f.name]
  return cls(**values)


def _names(cls) -> list[str]:
  """Returns the flat names of all fields of a dataclass."""
  return [
    name
    for f in dataclasses.fields(cls)
    for name in (_names(f.type) if dataclasses.is_dataclass(f.type) else [f.name])
  ]
