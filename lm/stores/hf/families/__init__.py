"""Families of Hugging Face, one a file: `find("llama")` returns the module.

Adding the file is registering it; `Family` is the protocol that it keeps.
"""

import importlib
import pkgutil
from typing import Protocol

from lm.errors import one_of
from lm.stores.hf.config import HfConfig
from lm.stores.hf.mapping import Row


class Family(Protocol):
  """The members of a module of this folder."""

  MODEL_TYPES: tuple[str, ...]  # the values of model_type in config.json that it reads
  FAMILY: str  # the module of lm.models that is its model
  PREFIX: str  # of the body's tensor names; absent in files of a model without a head
  IGNORED: str  # a regex of tensors that need not be used: buffers, copies; "" for none

  def config(hf: HfConfig) -> dict:
    """Returns the flat fields of our model, vocab included.

    Raises Mistake for values that change the model and that ours cannot represent.
    """

  def to_hf(fields: dict) -> dict:
    """Returns the config.json of one of our models: the inverse of `config`.

    The export reads it back with `config` and refuses fields that did not survive.
    """

  def mapping(hf: HfConfig) -> list[Row]:
    """Returns a row for every parameter that a model of this family may have."""


def names() -> list[str]:
  """Returns the names of the families' files, in order."""
  return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_")


def load(name: str) -> Family:
  """Returns the module of a file here."""
  return importlib.import_module(f"{__name__}.{name}")


def find(model_type: str) -> Family:
  """Returns the family that reads a model_type; Mistake lists all that are read."""
  family_of = {}
  for family in map(load, names()):
    for supported in family.MODEL_TYPES:
      assert supported not in family_of, f"two families read {supported}"
      family_of[supported] = family
  return family_of[one_of("model_type", model_type, sorted(family_of))]
