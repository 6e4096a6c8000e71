"""Models by the name of their family, and the contract that each of them keeps.

A family is a file here with a frozen `Config`, `PRESETS`, a `Block` and a `Model`, a
linen module with `config`, `traits` and the methods
  features(tokens_BT, *, positions_BT=None, segments_BT=None, cache=None, train=False)
    -> Features; families also take the arrays that their `traits.reads` names
  readout(x_BTD) -> logits_BTV in float32
  init_cache(batch, size) -> an empty cache, where `traits.decodes`
and `__call__`, which returns (logits_BTV, cache). Parameters are float32 and are
created by `lm.letters.weight`.
"""

import dataclasses
import difflib
from typing import Any, NamedTuple

import jax

from lm import lookup
from lm.errors import Mistake


class Auxiliary(NamedTuple):
  """A loss of the model itself, averaged over its tokens and layers (experts)."""

  loss: jax.Array | float  # times its weight: what an objective adds per token
  mean: jax.Array  # without it: what is reported


class Features(NamedTuple):
  """What `Model.features` returns."""

  x_BTD: jax.Array  # the residual stream before the readout
  cache: Any = None  # the cache that came in, with these tokens added
  losses: dict[str, Auxiliary] = {}  # noqa: RUF012 - never changed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traits:
  """What a family can do; every `Model` declares it, and tests/laws hold it to that."""

  sees: str = "past"  # which tokens its features depend on: "past", "both", "itself"
  decodes: bool = False  # it continues a text: `init_cache` makes a cache
  source: bool = False  # it reads source_BS, and writes what follows from it
  carries: bool = False  # its cache has constant size and can go on to the next batch
  packs: bool = True  # segments_BT keeps the documents of a row apart
  reads: tuple[str, ...] = ("positions_BT", "segments_BT")  # besides tokens_BT
  head: tuple[str, ...] = ("head",)  # top-level parameters of the output head


READS = Traits().reads
SOURCE = ("source_BS", "source_segments_BS")


def build(family: str, *, preset: str = "", vocab: int, **fields):
  """The model of a family: a preset's values, some of them replaced by `fields`.

  Fields are flat: `heads=8` finds its way into the group of the Config that has it.
  Raises Mistake for a preset or a field that does not exist.
  """
  module = lookup.find("lm.models", family)
  name = preset.replace("_", "-")
  if name and name not in module.PRESETS:
    known = ", ".join(module.PRESETS)
    raise Mistake(f"no preset {preset!r} in family {family!r}; found: {known}")
  known = _names(module.Config)
  for field in fields:
    if field not in known:
      near = difflib.get_close_matches(field, known, n=1)
      hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
      raise Mistake(f"family {family!r} has no field {field!r}; {hint}")
  fields = module.PRESETS.get(name, {}) | fields | {"vocab": vocab}
  return module.Model(_fill(module.Config, fields))


def fields(built) -> dict:
  """What `model` has to be told, but for the vocabulary, to make `built` again."""
  values = {"family": type(built).__module__.rpartition(".")[2]} | _flat(built.config)
  del values["vocab"]
  return values


def _flat(config) -> dict:
  """The values of a dataclass and of those in it, by their flat names."""
  found = {}
  for f in dataclasses.fields(config):
    value = getattr(config, f.name)
    found |= _flat(value) if dataclasses.is_dataclass(value) else {f.name: value}
  return found


def _fill(cls, fields: dict):
  """A `cls`, its fields and those of the dataclasses in it, from `fields`."""
  values = {}
  for f in dataclasses.fields(cls):
    if dataclasses.is_dataclass(f.type):
      group = f.default_factory()  # whose defaults need not be those of its class
      told = {name: fields[name] for name in _names(f.type) if name in fields}
      values[f.name] = dataclasses.replace(group, **told)
    elif f.name in fields:
      values[f.name] = fields[f.name]
  return cls(**values)


def _names(cls) -> list[str]:
  """The flat names of all fields of `cls`."""
  return [
    name
    for f in dataclasses.fields(cls)
    for name in (_names(f.type) if dataclasses.is_dataclass(f.type) else [f.name])
  ]
