"""The contract of a store: a model on disk, in the format of any project.

Three kinds keep it: a run's folder (run.py), a folder of Hugging Face (hf/), a .gguf
file (gguf.py). Verbs and training call the methods of a store, whichever kind it is.
"""

import abc
import dataclasses
import functools
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp

from lm import letters, models, trees
from lm.data import tokenizers
from lm.data.tokenizers import vocabulary
from lm.errors import Mistake
from lm.nn.depth import Run

# Fields that say how a model is computed and trained: a run that starts from a stored
# model may choose them. (The context is a limit of rows; where it is the size of a
# table, the shapes of parameters are compared.)
FREE = (*(f.name for f in dataclasses.fields(Run)), "backend", "chunk", "context")
FREE += ("capacity", "balance", "router_z")
# Sizes that others imply where they are 0; the shapes of parameters are compared.
IMPLIED = ("kv_heads", "head_size", "ff", "table", "source_layers")
HEAD = ("head", "classes", "pooler", "hidden")  # fields of an output head


class Store(abc.ABC):
  """A model on disk: its fields, tokenizer and parameters.

  Opening one reads its small files, once, and no weights; it raises Mistake for what is
  damaged or not supported.
  """

  path: Path
  model = None  # the model as it was saved

  @property
  def config(self) -> dict:
    """The config of the run that trained the model; {} where it is unknown."""
    return {}

  @property
  def labels(self) -> tuple[str, ...]:
    """The names of the classes of a classifier; () where nobody has named them."""
    return tuple(self.config.get("task", {}).get("labels", ()))

  @property
  def fields(self) -> dict:
    """The family, its flat fields and vocab: `models.build(**store.fields)`."""
    return fields_of(self.model)

  @property
  def params_dtype(self) -> str:
    """The dtype to hold the parameters in, if nothing else is wanted."""
    return "float32"

  @property
  def weights(self) -> dict:
    """The parameters that are quantised, by path, as weights.py has them."""
    return {}

  @property
  @abc.abstractmethod
  def digest(self) -> str:
    """A sha256 that changes when the files change.

    The bytes of weights count where their own digests are kept, in a run; elsewhere
    their names, sizes and times do.
    """

  @property
  @abc.abstractmethod
  def tokenizer_path(self) -> Path | None:
    """The path that `tokenizers.load` takes; None for a model without a tokenizer."""

  @functools.cached_property
  def _tokenizer(self):
    path = self.tokenizer_path
    if path is None:
      return None
    tokenizer = tokenizers.load(path)
    vocabulary.check(tokenizer, self.fields["vocab"])
    return tokenizer

  def tokenizer(self):
    """Returns the model's tokenizer, None when it has none.

    Raises Mistake when text can become ids that the model lacks.
    """
    return self._tokenizer

  def completed(self, fields: dict) -> dict:
    """Returns the fields of a model that starts from this one, all of them.

    Those that `fields` leaves out are the stored model's own. A preset in `fields`
    stands for its values.
    """
    own = {name: value for name, value in self.fields.items() if name != "vocab"}
    family, preset = fields.get("family") or own["family"], fields.get("preset", "")
    defaults = models.defaults(family, preset)
    if family == own["family"]:
      given = models.preset_fields(family, preset)
      kept = {n: v for n, v in own.items() if n not in given or n in FREE}
      defaults |= kept
    return defaults | fields | {"family": family, "preset": preset}

  def check_fields(self, fields: dict, *, fresh=()) -> None:
    """Raises Mistake for a field that contradicts the stored model's own.

    It would fit, and be another model: the base of rotary angles has no shape. Fields
    in FREE may differ; those of an output head too, where `fresh` names it or neither
    has a classifier. (To change a model on purpose, `lm.save` it changed.)
    """
    own = self.fields
    drawn = any(is_fresh(f"{part}/w", fresh) for part in self.model.traits.head)
    new_head = drawn or own.get("head") == "tokens" or fields.get("head") == "none"
    free = FREE + HEAD if new_head else FREE
    changes = {
      name: (own[name], value)
      for name, value in fields.items()
      if name not in free
      and own.get(name, value) != value
      and not (name in IMPLIED and 0 in (own[name], value))
    }
    if "family" in changes:  # no other field means the same
      changes = {"family": changes["family"]}
    if changes:
      listed = ", ".join(f"{n} is {a!r}, not {b!r}" for n, (a, b) in changes.items())
      flags = " ".join(
        f"--config.model.{n}={shlex.quote(str(a))}" for n, (a, _) in changes.items()
      )
      raise Mistake(
        f"{self.path} has another model than the config: {listed}; wanted its own: "
        f"{flags}"
      )

  def check(self, wanted, *, fresh=()) -> None:
    """Raises Mistake unless `params(wanted, fresh=fresh)` would fit; reads no weights.

    Every parameter has to be stored with the shape wanted, but for those that `fresh`
    names; it is read in the dtype wanted. Stored parameters that are not wanted have to
    belong to an output head (`Traits.head`): leaving out anything else would change the
    model.
    """
    want = trees.describe(wanted)
    for pattern in fresh:
      if not any(re.fullmatch(pattern, path) for path in want):
        raise Mistake(f"fresh={pattern!r} names no parameter of {', '.join(want)}")
    have = {
      path: leaf
      for path, leaf in trees.describe(abstract(self.model)[0]).items()
      if path in want or not (is_fresh(path, fresh) or is_head(path, self.model))
    }
    both = (
      {p: x for p, x in d.items() if not is_fresh(p, fresh)} for d in (have, want)
    )
    have, want = both
    if difference := trees.differs(trees.retyped(have, want), want):
      raise Mistake(
        f"{self.path} has another model: {difference}; it is made by "
        f"{described(self.model)}; parameters of a new part are drawn where "
        "fresh=('part/.*',) names them"
      )

  def check_trained(self, trained) -> None:
    """Raises Mistake for a tree of parameters to train of which some are quantised."""
    paths = [path for path in trees.by_path(trained) if path in self.weights]
    if paths:
      raise Mistake(
        f"{self.path} has {paths[0]} in {self.weights[paths[0]]['kind']}, which is not "
        "trained itself; train LoRA beside it: --config.adapt.name=lora"
      )

  def params(self, wanted, *, fresh=(), drawn=None, stay=False):
    """Returns the parameters as `wanted`, a tree of jax.ShapeDtypeStruct.

    Each comes to the devices of its sharding. Leaves whose path matches one of the
    regular expressions in `fresh` (re.fullmatch) are not read but taken from `drawn`, a
    tree with at least these leaves. With `stay`, leaves stay on disk until `np.asarray`
    is called on them. What is quantised comes as a `lm.nn.quantised.Quantised`. Raises
    Mistake as `check`, and when the weights are damaged.
    """
    self.check(wanted, fresh=fresh)
    leaves = trees.by_path(wanted)
    read = {path: leaf for path, leaf in leaves.items() if not is_fresh(path, fresh)}
    params = self._read(read, stay=stay)
    if len(read) < len(leaves):
      assert drawn is not None, "fresh parameters come from `drawn`"
      drawn = trees.by_path(drawn)
      params = params | {path: drawn[path] for path in leaves if path not in read}
    ordered = [params[path] for path in leaves]
    return jax.tree.unflatten(jax.tree.structure(wanted), ordered)

  @abc.abstractmethod
  def _read(self, wanted: dict, *, stay: bool) -> dict:
    """Returns the arrays of {path: ShapeDtypeStruct}, by path."""


def labels_of(config: dict) -> tuple[str, ...]:
  """Returns the names of classes in a config.json of Hugging Face: its id2label."""
  names = config.get("id2label")
  if not isinstance(names, dict) or any(not str(key).isdigit() for key in names):
    return ()
  return tuple(str(names[key]) for key in sorted(names, key=int))


def is_fresh(path: str, fresh) -> bool:
  """True if a regular expression in `fresh` matches all of a path."""
  return any(re.fullmatch(pattern, path) for pattern in fresh)


def is_head(path: str, model) -> bool:
  """True for a parameter of the model's output head, which may be exchanged."""
  return path.split("/")[0] in model.traits.head


@functools.cache
def abstract(model):
  """Returns a model's parameters as shapes, and their dimensions as letters."""
  return letters.abstract(model, jnp.zeros((1, 8), jnp.int32))


def fields_of(model) -> dict:
  """Returns all that `models.build` needs to make a model again, vocab included."""
  return models.fields(model) | {"vocab": model.config.vocab}


def described(model) -> str:
  """Returns the main fields of a model in one line: "family=decoder, width=64".

  A field that is 0, False or empty is left out: what it stands for is another field's.
  """
  fields = fields_of(model)
  names = ("family", "width", "layers", "heads", "kv_heads", "ff", "tied", "head")
  shown = [name for name in (*names, "vocab") if fields.get(name)]
  return ", ".join(f"{name}={fields[name]}" for name in shown)
