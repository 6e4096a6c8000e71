"""Folders of Hugging Face: config.json and safetensors, in and out.

  store = stores.open("SmolLM2-135M-Instruct")
  model, params, tokenizer = lm.load("SmolLM2-135M-Instruct")

families/ translate one architecture each: a config.json to our fields and back, and a
mapping of tensors to parameters. engine.py walks the mapping in, export.py out. Nothing
that a folder brings is executed.
"""

import functools
import hashlib
import json
import re
from pathlib import Path

import numpy as np

from lm import models, trees
from lm.data.tokenizers import files
from lm.errors import Mistake
from lm.stores.hf import engine, families, tied
from lm.stores.hf.config import HfConfig
from lm.stores.hf.folder import Folder
from lm.stores.hf.mapping import Mapping, without_prefix
from lm.stores.store import Store, abstract, labels_of

HEAD = "lm_head.weight"
MAX_LAYERS = 1 << 12  # a config.json with more is damaged


class HfStore(Store):
  """A model in a folder of Hugging Face.

  source: where the tensors are; `tensors`, `read(name)`, `forget()`
  family: the module of lm.stores.hf.families
  mapping: the rows of the family, bound to this model
  copies: names of tensors that are the table of embeddings again, which is tied
  """

  def __init__(self, path, config: dict, *, family: str = ""):
    self.path = Path(path)
    self._open(Folder(path, config), family)

  def _open(self, source, model_type: str):
    """Reads the headers of a source; `model_type` replaces that of its config."""
    if not model_type and "model_type" not in source.config:
      from lm.stores.hf import identify

      model_type = identify.model_type(self.path, source.config, source.tensors)
    values = source.config | ({"model_type": model_type} if model_type else {})
    hf = HfConfig(values, source.tensors)
    self.source, self.family = source, families.find(hf["model_type"])
    fields = self.family.config(hf)
    _check_fields(fields, len(source.tensors))
    self.model = models.build(self.family.FAMILY, **fields)
    self.mapping = mapping_of(self.family, hf, self.model)
    self.copies = _copies(source, self.mapping, self.family.IGNORED, fields)

  @property
  def tokenizer_path(self) -> Path | None:
    return self.path if files.find(self.path) else None

  @property
  def labels(self) -> tuple[str, ...]:
    return labels_of(self.source.config)

  @functools.cached_property
  def digest(self) -> str:
    states = [
      [str(path), path.stat().st_size, path.stat().st_mtime_ns]
      for path in self.source.paths()
      if path.is_file()
    ]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()

  def keep(self, folder):
    """Writes what ours does not represent into a folder, see export.keep."""
    from lm.stores.hf import export

    export.keep(folder, self.source)

  def _read(self, wanted: dict, *, stay: bool) -> dict:
    patterns = [self.family.IGNORED, *(f"^{re.escape(name)}$" for name in self.copies)]
    ignored = "|".join(filter(None, patterns))
    engine.check(self.mapping.tensors, self.source.tensors, ignored)
    self.mapping.check_derived(self.source.read)
    if not stay:
      return engine.load(self.source, self.mapping, wanted, ignored=ignored)
    return {
      path: engine.Stored(self.source, self.mapping, path, leaf.shape)
      for path, leaf in wanted.items()
    }


def _check_fields(fields: dict, num_tensors: int):
  """Raises Mistake for values that no model has, before shapes are made of them."""
  for key, value in fields.items():
    absurd = isinstance(value, int) and not 0 <= value < 2**31
    if absurd or not isinstance(value, int | float | str | tuple):
      raise Mistake(f"config.json gives {key}={value!r}, which makes no sense")
  if fields["layers"] > min(num_tensors, MAX_LAYERS):
    raise Mistake(
      f"config.json says {fields['layers']} layers, the files have {num_tensors} "
      "tensors in all; they do not belong together"
    )


def mapping_of(family, hf: HfConfig, model) -> Mapping:
  """Returns the rows of a family bound to a model, under the names of hf's tensors."""
  rows, shapes = family.mapping(hf), trees.shapes_of(abstract(model)[0])
  if hf.names is not None:
    rows = without_prefix(rows, family.PREFIX, hf.names)
    rows = tied.renamed(rows, shapes, hf.names)
  return Mapping(rows, shapes)


def _copies(source, mapping: Mapping, ignored: str, fields: dict) -> list[str]:
  """Returns the names under which the files have the table of embeddings again.

  Those that the family ignores are left out. Raises Mistake when one differs.
  """
  names = [n for n in source.tensors if not (ignored and re.search(ignored, n))]
  if not fields.get("tied", True):
    names = [name for name in names if name != HEAD]
  names = tied.copies(mapping, names)
  table = mapping.name_of("embed/table") if names else ""
  for name in names:
    if table not in source.tensors or not np.array_equal(
      source.read(table), source.read(name)
    ):
      raise Mistake(
        f"{name} differs from {table}, but config.json says that they are tied; set "
        "tie_word_embeddings to false"
      )
  return names
