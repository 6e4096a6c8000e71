"""Models of other projects: Hugging Face's folders and GGUF files, in and out.

    model, params, tokenizer = interop.load("SmolLM2-135M-Instruct")

A file here is a family: `config` (config.json -> our flat fields), `theirs` (the way
back) and `table`, the rows that the engine walks. Nothing that a folder brings is run.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm import letters as dims
from lm import lookup, models, trees
from lm.data import tokenizers
from lm.data.tokenizers import files
from lm.errors import Mistake, one_of
from lm.letters import make_mesh, shardings
from lm.stores.gguf import Gguf
from lm.stores.hf import engine
from lm.stores.hf.config import Theirs
from lm.stores.hf.folder import Folder, is_folder

# Their `model_type` -> the file here.
TYPES = {
  "bert": "bert",
  "camembert": "roberta",
  "distilbert": "distilbert",
  "gemma2": "gemma",
  "gemma3_text": "gemma",
  "gpt2": "gpt2",
  "gpt_neox": "neox",
  "llama": "llama",
  "mamba2": "mamba2",
  "mistral": "llama",
  "mixtral": "mixtral",
  "olmo2": "olmo2",
  "qwen2": "llama",
  "qwen3": "llama",
  "roberta": "roberta",
  "t5": "t5",
  "xlm-roberta": "roberta",
}
MOST_LAYERS = 1 << 12  # a model of more is a mistake in its config


@dataclass(frozen=True)
class Checkpoint:
  """A model of theirs: where its tensors are, and how ours is made of them."""

  source: Any
  family: Any  # the module of lm.stores.hf
  model: Any
  table: engine.Table
  twice: str  # the name of a tied readout that the file says a second time, or ""

  def params(self, mesh=None):
    """The parameters, each on the devices of the mesh; by default on the first."""
    where = mesh or make_mesh(jax.devices()[:1])
    shapes, letters = abstract(self.model)
    wanted = trees.placed(shapes, shardings(where, letters, shapes))
    return self.params_as(wanted)

  def params_as(self, wanted):
    """The parameters as `wanted`, a tree of jax.ShapeDtypeStruct with shardings."""
    self.check(wanted)
    ignored = self.family.IGNORED + (f"|^{self.twice}$" if self.twice else "")
    return engine.load(self.source, self.table, wanted, ignored=ignored.lstrip("|"))

  def check(self, wanted):
    """Raises Mistake unless `wanted` has the shapes of this model's parameters."""
    ours, asked = trees.shapes_of(abstract(self.model)[0]), trees.shapes_of(wanted)
    text = f" and data.tokenizer={self.source.path}"  # which decides the vocabulary
    text = text if files.found(self.source.path) else ""
    for path in sorted(set(ours) | set(asked)):
      got, want = ours.get(path, "absent"), asked.get(path, "absent")
      if got != want:
        raise Mistake(
          f"{self.source.path} has another model: {path} is {got} in it, wanted {want}"
          f"; it is made by {described(self.model)}{text}"
        )


def is_foreign(path) -> bool:
  """Whether there is a folder of Hugging Face's or a GGUF file at `path`."""
  return is_folder(path) or Path(path).suffix == ".gguf"


def open_source(path):
  """The source of a folder or file of theirs; Mistake for anything else."""
  if is_folder(path):
    return Folder(path)
  if Path(path).suffix == ".gguf" and Path(path).is_file():
    return Gguf(path)
  raise Mistake(
    f"{path} is neither a Hugging Face folder (config.json with a model_type) nor a "
    ".gguf file"
  )


def module(name: str):
  """The file of lm.stores.hf for a model_type; Mistake lists those that are known."""
  one_of("model_type", name, TYPES)
  return lookup.find("lm.stores.hf.families", TYPES[name])


def checkpoint(path, *, family: str = "", **more) -> Checkpoint:
  """What is at `path`, checked as far as its headers tell; no weights are read.

  `family` is a model_type in place of the one in config.json; `more` are fields of
  ours, such as dtype, that go before what it says. Raises Mistake for what is
  damaged or not built here.
  """
  source = open_source(path)
  told = source.config | ({"model_type": family} if family else {})
  told = Theirs(told, source.tensors)
  found = module(told["model_type"])
  fields = found.config(told)
  _check_fields(fields, len(source.tensors))
  model = models.build(found.FAMILY, **(fields | more))
  rows = engine.named_as(found.table(told), found.PREFIX, source.tensors)
  table = engine.Table(rows, trees.shapes_of(abstract(model)[0]))
  twice = _twice(source, table, fields.get("tied", True))
  return Checkpoint(source, found, model, table, twice)


def _check_fields(fields: dict, num_tensors: int):
  for key, value in fields.items():
    wrong = isinstance(value, int) and not 0 <= value < 2**31
    if wrong or not isinstance(value, int | float | str | tuple):
      raise Mistake(f"config.json gives {key}={value!r}, which makes no sense")
  if fields["layers"] > min(num_tensors, MOST_LAYERS):
    raise Mistake(
      f"config.json says {fields['layers']} layers, the files have {num_tensors} "
      "tensors in all; they do not belong together"
    )


HEAD = "lm_head.weight"


def _twice(source, table, tied) -> str:
  """HEAD, if the file has a readout besides the table that it is tied to."""
  if not tied or HEAD in table.tensors or HEAD not in source.tensors:
    return ""
  name = table.name_of("embed/table")
  if name not in source.tensors or not np.array_equal(
    source.read(name), source.read(HEAD)
  ):
    raise Mistake(
      f"{HEAD} differs from {name}, but config.json says that they are tied; set "
      "tie_word_embeddings to false"
    )
  return HEAD


@functools.cache
def abstract(model):
  """Shapes of a model's parameters and their dimensions as letters."""
  return dims.abstract(model, jnp.zeros((1, 8), jnp.int32))


def tokenizer_of(source):
  """The tokenizer of a source, None when it has none."""
  return tokenizers.load(source.path) if files.found(source.path) else None


def load(path, *, mesh=None, **more):
  """(model, params, tokenizer) of a folder or file of theirs; see `checkpoint`."""
  found = checkpoint(path, **more)
  return found.model, found.params(mesh), tokenizer_of(found.source)


def described(model) -> str:
  """The fields of a model that say what it is, for one line."""
  fields = models.fields(model)
  names = ("family", "width", "layers", "heads", "kv_heads", "ff", "tied", "head")
  told = [f"{name}={fields[name]}" for name in names if name in fields]
  return ", ".join([*told, f"vocab={model.config.vocab}"])
