"""A run's folder: which file is where, and the store of the model in it.

config.json   the resolved config of training; none where only a model was saved
model.json    the family and fields of the model, vocab included
weights.json  of a compressed model: which parameters are quantised; see weights.py
versions.json, metrics.jsonl, TensorBoard events, curves.png, manifest.txt, samples.txt
tokenizer/    as Hugging Face reads it
command.txt   the command that trained it, or went on with it last
kept/         of a converted model: the small files that it came with
checkpoints/  see lm.checkpoint
.lock         while a run writes here: which one; see owner.py

Reading any of them executes nothing.
"""

import functools
import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path

import jax

from lm import checkpoint, models, trees
from lm.checkpoint.steps import Steps
from lm.data import tokenizers
from lm.data.tokenizers import vocabulary
from lm.disk import atomic, json_file, paths
from lm.disk import digest as digests
from lm.errors import Mistake, check_arguments
from lm.stores import weights
from lm.stores.differing import differing
from lm.stores.owner import Owner
from lm.stores.store import Store, abstract, fields_of, labels_of

FIELDS = ("ema", "params")  # of a state: the moving average is used where there is one


class RunFolder:
  """The paths of one run, and whose run it is."""

  def __init__(self, path):
    self.path = paths.local(path)
    self.config_file = self.path / "config.json"
    self.model_file = self.path / "model.json"
    self.weights_file = self.path / "weights.json"
    self.metrics_file = self.path / "metrics.jsonl"
    self.curves_file = self.path / "curves.png"
    self.samples_file = self.path / "samples.txt"
    self.command_file = self.path / "command.txt"
    self.tokenizer = self.path / "tokenizer"
    self.checkpoints = self.path / "checkpoints"
    self.kept = self.path / "kept"
    self._owner = Owner(self.path, self.checkpoints)
    if not self.kept.exists() and (self.path / "theirs").exists():
      self.kept = self.path / "theirs"  # the name in older folders

  def owned(self, log=print):
    """Returns a context manager in which no other run writes here; see owner.py."""
    return self._owner.held(log)

  def config(self) -> dict:
    """Returns the resolved config, {} of a model that was saved without training.

    Raises Mistake when this is no run's folder, or config.json is damaged.
    """
    if self.config_file.is_file():
      return json_file.read(self.config_file)
    if self.model_file.is_file():
      return {}
    reason = "it has no config.json"
    if not self.path.exists():
      reason = "there is nothing, and nothing is downloaded"
    raise Mistake(f"{self.path} is not a run's folder: {reason}")

  def model_fields(self) -> dict:
    """Returns what `models.build` needs to make the model, vocab included.

    Older folders have no model.json: their config names the model, and their tokenizer
    its vocabulary.
    """
    if self.model_file.is_file():
      return json_file.read(self.model_file)
    config = self.config()
    if "model" not in config:
      raise Mistake(f"{self.path} is not a run's folder: its config names no model")
    fields = dict(config["model"])
    if "vocab" not in fields:
      fields["vocab"] = tokenizers.load(self.tokenizer).size
    return fields

  def check(self, config: dict, *, free=()):
    """Raises Mistake when the folder holds results of a run of another config.

    `free` are the values that a run may go on with changed, see `differing`. A folder
    without metrics and checkpoints belongs to nobody yet.
    """
    if self.weights():
      raise Mistake(
        f"{self.path} is a compressed model, which does not train on; start a run of "
        f"LoRA from it: --config.init.path={self.path} --config.adapt.name=lora"
      )
    if not self._has_results():
      return
    old = self.config() if self.config_file.exists() else {}
    changes = differing(old, config, free)
    if changes:
      listed = "; ".join(
        f"{key}: {old!r} then, {new!r} now" for key, old, new in changes
      )
      self._refuse(listed if old else "a model that `train` did not make")

  def weights(self) -> dict:
    """Returns what weights.json says of quantised parameters, {} without it."""
    return json_file.read(self.weights_file) if self.weights_file.is_file() else {}

  def check_model(self, fields: dict, tokenizer_digest: str):
    """Raises Mistake unless the folder is new, or was saved of this model before."""
    if not self._has_results():
      return
    if self.config_file.exists():
      raise Mistake(f"{self.path} is a run that was trained; choose another folder")
    fields = fields | {"weights": fields.get("weights", {})}
    changes = differing(self.model_fields() | {"weights": self.weights()}, fields)
    if changes:
      key, old, new = changes[0]
      self._refuse(f"{key}: {old!r} then, {new!r} now")
    old = ""
    if self.tokenizer.is_dir():
      old = tokenizers.load(self.tokenizer).digest
    if old != tokenizer_digest:
      self._refuse("another tokenizer")

  def _refuse(self, reason: str):
    raise Mistake(
      f"{self.path} belongs to a run of another config ({reason}); choose another "
      "folder or take the values back"
    )

  def _has_results(self) -> bool:
    metrics = self.metrics_file.exists() and self.metrics_file.stat().st_size
    return bool(
      metrics or (self.checkpoints.is_dir() and any(self.checkpoints.iterdir()))
    )

  def begin(self, config: dict, model, *, free=()):
    """Writes config.json, model.json and versions.json; raises Mistake as `check`."""
    self.check(config, free=free)
    self.path.mkdir(parents=True, exist_ok=True)
    _write_json(self.config_file, config)
    self.write_model(model)

  def write_model(self, model):
    """Writes model.json and versions.json."""
    self.path.mkdir(parents=True, exist_ok=True)
    _write_json(self.model_file, fields_of(model))
    _write_json(self.path / "versions.json", versions())


class RunStore(Store):
  """The model of a run's folder, of its newest step without damage or of one `step`."""

  def __init__(self, path, *, step: int | None = None):
    self.path = Path(path)
    self.folder = RunFolder(path)
    self.model = models.build(**self.folder.model_fields())
    self._step = step
    self._checkpoints = checkpoint.Checkpoints(self.folder.checkpoints, owned=False)

  @functools.cached_property
  def config(self) -> dict:
    return self.folder.config()

  @property
  def labels(self) -> tuple[str, ...]:
    kept = self.folder.kept / "config.json"
    of_origin = labels_of(json_file.read(kept)) if kept.is_file() else ()
    return super().labels or of_origin

  @property
  def tokenizer_path(self) -> Path | None:
    return self.folder.tokenizer if self.folder.tokenizer.is_dir() else None

  @property
  def digest(self) -> str:
    if self._step is None:
      self._step = self._checkpoints.newest_good(field=FIELDS)
    folder = self.folder
    files = [folder.config_file, folder.model_file, folder.weights_file]
    files += [*folder.tokenizer.rglob("*"), *folder.kept.rglob("*")]
    parts = [
      [str(file.relative_to(self.path)), atomic.sha256_of_file(file)]
      for file in sorted(files)
      if file.is_file()
    ]
    parts.append(digests.of(folder.checkpoints / str(self._step)))
    if self.config.get("adapt"):
      from lm.stores import adapted

      parts.append(adapted.base(self).digest)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

  @property
  def params_dtype(self) -> str:
    return Steps(self.folder.checkpoints).dtype(self._step, FIELDS)

  def check(self, wanted, *, fresh=()) -> None:
    if not self._checkpoints.steps():
      raise Mistake(f"{self.path} has no checkpoint yet; train it first")
    super().check(wanted, fresh=fresh)

  def _read(self, wanted: dict, *, stay: bool) -> dict:
    if self.config.get("adapt"):
      from lm.stores import adapted

      return adapted.read(self, wanted)
    return self.own_params(wanted, stay=stay)

  @property
  def weights(self) -> dict:
    if self.config.get("adapt"):
      from lm.stores import adapted

      return adapted.base(self).weights
    return self.folder.weights()

  def own_params(self, wanted, *, stay=False):
    """Returns the parameters that the checkpoint has, as `wanted`."""
    if forms := self.folder.weights():
      wanted = weights.wanted(forms, wanted)
    params, self._step, _ = self._checkpoints.restore_params(
      wanted, self._step, field=FIELDS, stay=stay
    )
    return params


def save(path, model, params, tokenizer):
  """Makes a run's folder of a model trained elsewhere, such as in a notebook.

  `lm.load` returns it, and the verbs that need no data (generate) take the folder. Each
  call saves another step and drops the one before. `tokenizer` may be None.

  Raises Mistake when the folder belongs to another run, or to one that writes there at
  this moment, when text can become ids that the model lacks, or when the parameters are
  not those of the model: in float32, in the model's own dtype, or quantised.
  """
  check_arguments("lm.save", model, params, tokenizer)
  if tokenizer:
    vocabulary.check(tokenizer, model.config.vocab)
  shapes = abstract(model)[0]
  narrow = trees.as_dtype(shapes, models.fields(model).get("dtype", "float32"))
  difference = weights.differs(params, shapes)
  if difference and weights.differs(params, narrow):
    raise Mistake(
      f"the parameters do not fit the model: {difference}; save those of this model"
    )
  folder, fields = RunFolder(path), fields_of(model)
  digest = tokenizer.digest if tokenizer else ""
  with folder.owned():
    forms = weights.described(params)
    folder.check_model(fields | {"weights": forms}, digest)
    folder.write_model(model)
    if forms:
      _write_json(folder.weights_file, forms)
    if tokenizer:
      tokenizer.save(folder.tokenizer)
    with checkpoint.Checkpoints(folder.checkpoints, keep=1) as checkpoints:
      step = max(checkpoints.steps(), default=0) + 1
      about = {"model": fields, "tokenizer": digest, "versions": versions()}
      checkpoints.save(step, {"params": params}, about=about)


def _write_json(path, value: dict):
  atomic.write(path, json.dumps(value, indent=1) + "\n")


def versions() -> dict:
  """Returns the versions of Python and of the packages that a run depends on."""
  names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers")
  packages = {name: metadata.version(name) for name in (*names, "numpy")}
  return {"python": platform.python_version()} | packages


def manifest(state, letters) -> str:
  """Returns a line per array of a state: path, letters, shape, dtype, PartitionSpec."""
  rows = []
  for (path, leaf), name in zip(
    trees.by_path(state).items(), jax.tree.leaves(letters), strict=True
  ):
    shape = "x".join(map(str, leaf.shape)) or "()"
    spec = getattr(leaf.sharding, "spec", "")
    rows.append((path, name or "-", shape, str(leaf.dtype), str(spec)))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "".join(
    "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
    + "\n"
    for row in rows
  )
