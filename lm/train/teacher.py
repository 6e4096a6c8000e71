"""The model that another one learns from: `Experiment.teacher`.

It is the reference of a preference loss, the teacher of a distillation, or labels texts
for self-training. Nothing of it is trained or saved with the run: what an objective
needs of it is in `TrainState.given`, and is computed again when the run goes on.
"""

import functools
import shlex

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from lm import objectives, stores, tasks, trees
from lm.data.loader import Loader
from lm.data.rows import corrupt
from lm.data.tokenizers import vocabulary
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.log.progress import progress
from lm.train.config import Experiment

SPLITS = ("train", "heldout")
SEQ = 512  # the longest row of a teacher's own that was not trained here


class Teacher:
  """A stored model that the run of an experiment learns from.

  `splits` are those that the objective needs its outputs for. Opening one reads its
  small files. Raises Mistake for a model that cannot teach the experiment.
  """

  def __init__(self, path: str, experiment: Experiment, mesh, splits=SPLITS):
    self.path, self.store, self.splits = path, stores.open(path), splits
    self.model, self.mesh = self.store.model, mesh
    self._experiment = experiment
    how = objectives.teaching(experiment.objective, experiment.loss)
    self.reads_rows = how == "rows"
    own = None if self.reads_rows else tasks.of_model(self.store, self.model)
    self.task = own or (tasks.make(experiment.task) if experiment.task else None)
    if self.reads_rows:
      self._check_rows()

  def _check_rows(self):
    vocabulary.refuse_prompt(self.store.tokenizer(), self.path)
    if self.store.weights:
      raise Mistake(
        f"teacher={self.path} is quantised; name the model that it was compressed from"
      )
    context, seq = self.model.config.context, self._experiment.seq
    if 0 < context < seq:
      raise Mistake(
        f"seq={seq} is longer than the context={context} of teacher={self.path}; make "
        "seq smaller"
      )

  @functools.cached_property
  def tokenizer(self):
    """The teacher's own tokenizer; Mistake when it has none."""
    tokenizer = self.store.tokenizer()
    if tokenizer is None:
      raise Mistake(f"teacher={self.path} has no tokenizer; wanted a model with one")
    return tokenizer

  @functools.cached_property
  def params(self):
    """The parameters, on the mesh of the run."""
    return stores.load(self.path, mesh=self.mesh)[1]

  def flat(self, *, shapes=False) -> dict:
    """Returns {"embed/table_VD": array} of all parameters, or their shapes.

    The letters in a name place an array of `TrainState.given` on a mesh.
    """
    shapes_of, letters = stores.abstract(self.model)
    names = [
      f"{path}_{dims}"
      for (path, _), dims in zip(
        trees.by_path(shapes_of).items(), jax.tree.leaves(letters), strict=True
      )
    ]
    if shapes:
      leaves = trees.as_dtype(shapes_of, self.store.params_dtype)
    else:
      leaves = self.params
    return dict(zip(names, jax.tree.leaves(leaves), strict=True))

  def of_rows(self, function, dataset, split: str) -> dict:
    """Returns {name_R: numbers by example} of a split, from the rows of the run.

    `function(params, batch)` returns {name_R: numbers_BP}; the rows have example_BP. Of
    a training split longer than the run, what the run reads is computed, the rest NaN.
    """
    self.check_vocabulary(dataset.tokenizer)
    rows = dataset.rows(split, self._experiment.seq)
    loader, steps = self._loader(rows, dataset.order, split)
    whole = NamedSharding(self.mesh, PartitionSpec())  # readable by every process

    def numbered(params, batch):
      return batch["example_BP"], batch["weights_BP"] > 0, function(params, batch)

    step, outputs = jax.jit(numbered, out_shardings=whole), {}
    empty_R = np.full(sum(map(len, rows.members)), np.nan, np.float32)
    with jax.set_mesh(self.mesh):
      label = f"{self.path}: {split}"
      batches = loader.prefetch(range(steps))
      for batch in progress(batches, total=steps, unit="batch", label=label):
        number_BP, is_real_BP, values = jax.device_get(step(self.params, batch))
        for name, value_BP in values.items():
          value_R = outputs.setdefault(name, empty_R.copy())
          value_R[number_BP[is_real_BP]] = value_BP[is_real_BP]
    return outputs

  def _loader(self, rows, order: str, split: str) -> tuple[Loader, int]:
    """Returns (a loader, its steps): over all rows once, or over those of the run."""
    e, options = self._experiment, dict(batch=self._experiment.batch, mesh=self.mesh)
    loader = Loader(rows, order="once", **options)
    if split == "heldout" or len(loader) <= e.num_steps:
      return loader, len(loader)
    return Loader(rows, order=order, seed=e.seed, **options), e.num_steps

  def answers(self, records) -> list[dict]:
    """Returns an answer of the teacher for each record, by its task."""
    if self.task is None:
      raise Mistake(f"teacher={self.path} writes text; wanted one that names classes")
    if not self.reads_rows:
      names = self.task.record("text")  # without references
      records = [{name: record[name] for name in names} for record in records]
    model, params, tokenizer = stores.load(
      self.path, mesh=make_mesh(jax.local_devices()[:1])
    )
    own = self.store.config.get("seq", SEQ)
    seq = self._experiment.seq if self.reads_rows else own
    seq = min(seq, model.config.context or seq)
    return self.task.answers(model, params, tokenizer, records, seq=seq)

  def check_vocabulary(self, tokenizer):
    """Raises Mistake unless ids mean the same to the teacher."""
    own, corruption = self.tokenizer, self._experiment.data.corruption
    if corruption:
      own = corrupt.extended(own, corruption)
    if tokenizer.digest != own.digest:
      own = shlex.quote(str(self.store.tokenizer_path.absolute()))
      raise Mistake(
        f"teacher={self.path} was trained with another tokenizer than "
        f"data.tokenizer={self._experiment.data.tokenizer}; wanted its own: "
        f"--config.data.tokenizer={own}"
      )
