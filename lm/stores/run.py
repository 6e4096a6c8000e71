"""A run's folder: what is where in it, and the way back from it to a model.

config.json (resolved; reading it executes nothing), versions.json, metrics.jsonl,
TensorBoard events, curves.png, manifest.txt, tokenizer/, samples.txt and checkpoints/.
"""

import json
import os
import platform
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp

from lm import checkpoint, models, trees
from lm import letters as dims
from lm.checkpoint import arrays
from lm.data import tokenizers
from lm.disk import digest as digest_
from lm.errors import Mistake
from lm.letters import make_mesh, shardings, unbox
from lm.nn.task_heads import PARTS
from lm.stores import hf
from lm.trees import by_path

# A run may go on with other values of these: they decide how long and how it is watched
# and where and how it is computed, not what is being trained on what. (Micro-batches do
# draw their own dropout, and share out the places of experts among themselves.)
FREE = ("num_steps", "eval.", "checkpoint.", "mesh.", "data.cache")
FREE += ("model.scan", "model.remat", "model.backend", "model.chunk")
FREE += ("optim.accumulate", "loss.logits_bytes")


class Workdir:
  """The paths of one run."""

  def __init__(self, path):
    self.path = Path(path)
    self.config_file = self.path / "config.json"
    self.metrics_file = self.path / "metrics.jsonl"
    self.curves_file = self.path / "curves.png"
    self.samples_file = self.path / "samples.txt"
    self.tokenizer = self.path / "tokenizer"
    self.checkpoints = self.path / "checkpoints"
    self.theirs = self.path / "theirs"  # what a converted model's folder said besides

  def config(self) -> dict:
    """The run's resolved config; Mistake when this is no run's folder."""
    if not self.config_file.is_file():
      why = "it has no config.json"
      if not self.path.exists():
        why = "there is nothing, and nothing is downloaded"
      raise Mistake(f"{self.path} is not a run's folder: {why}")
    try:
      return json.loads(self.config_file.read_text())
    except ValueError as error:
      raise Mistake(f"{self.config_file} is damaged: {error}") from error

  def field(self) -> str:
    """Where a checkpoint has the parameters to use: their moving average, if any."""
    return "ema" if self.config()["optim"]["ema"] else "params"

  def check(self, config: dict):
    """Raises Mistake when the folder holds something of a run of another config.

    A run that came to nothing, for a mistake in its config perhaps, does not count.
    """
    if not (self.config_file.exists() and self._has_results()):
      return
    config = json.loads(json.dumps(config))  # tuples are lists on disk
    old, new = _flat(self.config()), _flat(config)
    changed = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
    changed = [k for k in changed if not k.startswith(FREE)]
    if changed:
      what = "; ".join(f"{k}: {old.get(k)!r} then, {new.get(k)!r} now" for k in changed)
      raise Mistake(
        f"{self.path} belongs to a run of another config ({what}); choose another "
        "--workdir or take the values back"
      )

  def _has_results(self) -> bool:
    metrics = self.metrics_file.exists() and self.metrics_file.stat().st_size
    return bool(
      metrics or (self.checkpoints.is_dir() and any(self.checkpoints.iterdir()))
    )

  def begin(self, config: dict):
    """Notes the config; Mistake as `check`."""
    self.check(config)
    self.path.mkdir(parents=True, exist_ok=True)
    write(self.config_file, json.dumps(config, indent=1) + "\n")
    write(self.path / "versions.json", json.dumps(versions(), indent=1) + "\n")

  def next_commands(self, *, generates: bool) -> str:
    """The last lines of a run: where things are, and what to do with them."""
    rows = [f"results: {self.path}"]
    found = [p for p in (self.curves_file, self.samples_file) if p.exists()]
    rows += [f"  {p}" for p in found]
    verbs = [f"evaluate --workdir={self.path}"]
    if generates:
      verbs.insert(0, f"generate --workdir={self.path} --prompt='To be, or'")
    leads = ("next:", "     ")
    rows += [f"{a} ./launch.sh {b}" for a, b in zip(leads, verbs, strict=False)]
    return "\n".join(rows)


def versions() -> dict:
  """The versions a run depends on."""
  names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers")
  found = {name: metadata.version(name) for name in (*names, "numpy")}
  return {"python": platform.python_version()} | found


def manifest(state, dims_of) -> str:
  """One line per array of a state: path, dimensions, shape, dtype, PartitionSpec."""
  rows = []
  for (path, leaf), name in zip(
    jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(dims_of), strict=True
  ):
    shape = "x".join(map(str, leaf.shape)) or "()"
    where = getattr(leaf.sharding, "spec", "")
    rows.append(
      (trees.path_name(path), name or "-", shape, str(leaf.dtype), str(where))
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "".join(
    "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip()
    + "\n"
    for row in rows
  )


def save(path, model, params, tokenizer):
  """Makes a run's folder of a model trained elsewhere, such as in a notebook.

  `load` gives it back, and the verbs that need no data (generate) take the folder. Each
  call saves another step and drops the one before. A model without a tokenizer (None)
  stays without. Raises Mistake when the folder belongs to another run, when the
  tokenizer has ids that the model lacks, or when the parameters are not those of the
  model.
  """
  vocab, size = model.config.vocab, tokenizer.size if tokenizer else 0
  if size > vocab:
    raise Mistake(
      f"the model has {vocab} tokens, the tokenizer {size}; save the tokenizer that it "
      "was trained with"
    )
  wanted = {"params": hf.abstract(model)[0]}
  given = arrays.describe(arrays.parts({"params": params}))
  if differs := arrays.mismatch(given, wanted):
    raise Mistake(
      f"the parameters do not fit the model: {differs}; save those of this model"
    )
  folder = Workdir(path)
  fields = models.fields(model) | ({} if size == vocab else {"vocab": vocab})
  told = {"model": fields, "optim": {"ema": 0.0}}
  digest = tokenizer.digest if tokenizer else ""
  folder.begin(told | {"tokenizer": digest})
  if tokenizer:
    tokenizer.save(folder.tokenizer)
  with checkpoint.Checkpoints(folder.checkpoints, keep=1) as checkpoints:
    step = max(checkpoints.steps(), default=0) + 1
    about = {"config": told, "tokenizer": digest, "versions": versions()}
    checkpoints.save(step, {"params": params}, about=about)


def load(path, *, step=None, mesh=None, **fields):
  """(model, params, tokenizer) of a run, of a Hugging Face folder or of a GGUF file.

  `step` is a saved one of a run, by default the newest; `mesh` is where the parameters
  go, by default the first device. The tokenizer is None where there is none. `fields`
  are values of the model in place of its own: dtype="bfloat16", or another head for an
  encoder, head="classes", classes=3. Raises Mistake when there is nothing to load.
  """
  mesh = mesh or make_mesh(jax.devices()[:1])
  model, params, tokenizer = _load(path, step, mesh)
  if fields:
    model, params = refitted(model, params, mesh, fields)
  return model, params, tokenizer


def _load(path, step, mesh):
  if hf.is_foreign(path):
    if step is not None:
      raise Mistake(f"{path} has no steps; leave out step={step}")
    return hf.load(path, mesh=mesh)
  model, tokenizer = _model(Workdir(path))
  shapes, letters = hf.abstract(model)
  wanted = trees.placed(shapes, shardings(mesh, letters, shapes))
  return model, load_params(path, wanted, step=step), tokenizer


def stored(path):
  """(model, params, tokenizer, digest) of a run, whose parameters stay on the disk.

  `np.asarray` of one of them reads it. The digest is of all that they were read from.
  """
  folder = Workdir(path)
  model, tokenizer = _model(folder)
  saved = checkpoint.Checkpoints(folder.checkpoints, owned=False)
  shapes, _ = hf.abstract(model)
  params, step, _ = saved.restore_params(shapes, field=folder.field(), stay=True)
  return model, params, tokenizer, digest_.of(folder.checkpoints / str(step))


def _model(folder: Workdir):
  """(model, tokenizer) of a run."""
  fields = folder.config()["model"]
  tokenizer = None
  if "vocab" not in fields or folder.tokenizer.is_dir():
    tokenizer = tokenizers.load(folder.tokenizer)
    fields = {"vocab": tokenizer.size} | fields
  return models.build(**fields), tokenizer


def refitted(model, params, mesh, fields: dict):
  """(model, params) with other values of the model, in `fields`.

  Parameters of the new head that the old one lacks, or has in another shape, are drawn.
  Mistake where anything but a head would have to be.
  """
  vocab, example = model.config.vocab, jnp.zeros((1, 8), jnp.int32)
  model = models.build(**(models.fields(model) | fields), vocab=vocab)
  shapes, letters = dims.abstract(model, example)
  where = by_path(shardings(mesh, letters, shapes))
  old, new = by_path(params), by_path(shapes)
  fits = {path for path in set(old) & set(new) if old[path].shape == new[path].shape}
  body = [p for p in sorted((set(old) | set(new)) - fits) if not _of_head(p)]
  if body:
    told = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    raise Mistake(
      f"with {told} the model would have another {body[0]}; what was learnt fits its "
      "own sizes only, and no more than the head can be exchanged"
    )
  drawn = sorted(set(new) - fits)

  def draw(key):
    made = by_path(unbox(model.init(key, example)["params"]))
    return {path: made[path] for path in drawn}

  out = {path: where[path] for path in drawn}
  made = jax.jit(draw, out_shardings=out)(jax.random.key(0)) if drawn else {}
  leaves = [made[path] if path in made else old[path] for path in new]
  return model, jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _of_head(path: str) -> bool:
  return path.split("/")[0] in PARTS


def load_params(path, abstract, *, step=None):
  """The parameters at `path` as `abstract` wants: of a run, or a model of others.

  Of a run that kept a moving average, that. `abstract` is a tree of
  jax.ShapeDtypeStruct with shardings, of any mesh.
  """
  if hf.is_foreign(path):
    return hf.checkpoint(path).params_as(abstract)
  folder = Workdir(path)
  saved = checkpoint.Checkpoints(folder.checkpoints, owned=False)
  return saved.restore_params(abstract, step, field=folder.field())[0]


def check_init(path, make):
  """Raises Mistake when there is nothing at `path` that could be loaded.

  Nor may it be another model than `make(vocab)`, the one to be trained.
  """
  if hf.is_foreign(path):
    found = hf.checkpoint(path)
    return found.check(hf.abstract(make(found.model.config.vocab))[0])
  folder = Workdir(path)
  old, _ = _model(folder)
  if not checkpoint.Checkpoints(folder.checkpoints, owned=False).steps():
    raise Mistake(f"{path} has no checkpoint yet; train it first")
  there = arrays.describe(arrays.parts(hf.abstract(old)[0]))
  wanted = hf.abstract(make(old.config.vocab))[0]
  if differs := arrays.mismatch(there, wanted):
    raise Mistake(
      f"{path} has another model: {differs}; it is made by {hf.described(old)}"
    )


def write(path, text: str):
  """Writes a small file whole or not at all."""
  new = Path(f"{path}.new")
  new.write_text(text, encoding="utf-8")
  os.replace(new, path)


def _flat(tree: dict, prefix="") -> dict:
  out = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    out |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
  return out
