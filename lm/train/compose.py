"""Makes the objects of an experiment: first those that need no data, then the rest.

  plan = compose.plan(experiment)        # raises Mistake; seconds
  dataset = compose.prepare(experiment)                           # hours, perhaps
  run = plan.bind(dataset)

Whatever can fail without data fails in `plan`.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from typing import Any

import jax

from lm import data, evaluate, models, objectives, stores, trees
from lm.data import tokenizers
from lm.data.loader import Loader, batch_shapes
from lm.data.rows import corrupt
from lm.data.tokenizers import vocabulary
from lm.errors import Mistake
from lm.letters import make_mesh, shardings
from lm.models import Traits
from lm.nn import linear
from lm.nn.layers import VOCAB_MULTIPLE
from lm.train import Trainer, build
from lm.train.bound import Run
from lm.train.config import Experiment


@dataclass(frozen=True)
class Plan:
  """An experiment on a mesh; all that needs no data has been checked."""

  experiment: Experiment
  mesh: Any
  store: Any  # where parameters come from, or None
  fresh: tuple[str, ...]  # regular expressions of the parameters drawn all the same
  traits: Traits  # of the model
  adaptation: Any = None  # an lm.adapt.Adaptation; None: all parameters are trained
  teacher: Any = None  # a lm.train.teacher.Teacher, where it learns from another model

  def model(self, vocab: int):
    """Returns the model for so many tokens."""
    return models.build(**self.experiment.model, vocab=vocab)

  def vocab(self, tokenizer) -> int:
    """Returns the size of the model's vocabulary.

    Parameters from a store keep its table, which may be longer than its tokenizer
    (Qwen) or shorter by special tokens that no text becomes (Gemma 3). The special
    tokens of a corruption are in the rows, and have to be in the table.
    """
    origin = self.store
    if origin is None and self.teacher and self.teacher.reads_rows:
      origin = self.teacher.store  # one logit for each of the teacher's
    if origin is None:
      return tokenizer.size
    size = origin.fields["vocab"]
    return max(size, tokenizer.size) if self.experiment.data.corruption else size

  def adapter(self, model):
    """Returns the lm.adapt.Adapter of a model; None where all of it is trained."""
    if self.adaptation is None:
      return None
    from lm import adapt

    return adapt.Adapter(self.adaptation, model, fresh=self.fresh)

  def trainer(
    self, model, batch, *, dataset=None, adapter=None, frozen=None
  ) -> Trainer:
    """Returns the Trainer of a model; without a dataset, one for its shapes alone.

    `frozen` are the parameters that its adapter freezes, by default their shapes.
    """
    e = self.experiment
    objective, given = objectives.make(e.objective, e.loss, dataset, self.teacher)
    options = dict(batch=batch, num_steps=e.num_steps, given=given)
    if adapter is not None:
      objective = adapter.objective(objective)
      options |= adapter.options(given, frozen)
    options |= {"carries": e.data.order == "carried"}
    return build(model, objective, e.optim, self.mesh, **options)

  def bind(self, dataset) -> Run:
    """Returns the Run on a dataset; Mistake when its tokenizer is not the store's."""
    e = self.experiment
    self.check_tokenizer(dataset.tokenizer)
    model = self.model(self.vocab(dataset.tokenizer))
    options = dict(batch=e.batch, mesh=self.mesh)
    rows = dataset.rows("train", e.seq)
    batches = Loader(rows, order=dataset.order, seed=e.seed, **options)
    heldout = Loader(dataset.rows("heldout", e.seq), order="once", **options)
    adapter, stored = self.adapter(model), None
    if adapter is not None:
      stored = self.stored(adapter)
    trainer = self.trainer(
      model, batches.shapes, dataset=dataset, adapter=adapter, frozen=stored
    )
    return Run(self, dataset, model, trainer, batches, heldout, adapter, stored)

  def stored(self, adapter) -> dict:
    """Returns the parameters of the store by path, on the mesh; without fresh ones."""
    where = shardings(self.mesh, adapter.letters, adapter.shapes)
    wanted = trees.placed(adapter.shapes, where)
    params = self.store.params(wanted, fresh=self.fresh, drawn=wanted)
    leaves = trees.by_path(params, is_leaf=linear.is_weight)
    shape = jax.ShapeDtypeStruct  # of what is drawn
    return {path: x for path, x in leaves.items() if not isinstance(x, shape)}

  def check_tokenizer(self, tokenizer=None):
    """Raises Mistake unless the text's tokenizer is the one of the store's model.

    The same goes for a teacher that reads the rows. Without a tokenizer, as much is
    checked as `data.tokenizer` tells before it is learnt.
    """
    stores_by_value = {"init.path": self.store}
    if self.teacher and self.teacher.reads_rows:
      stores_by_value["teacher"] = self.teacher.store
    for value, store in stores_by_value.items():
      if store and store.tokenizer():  # else it does not say what its ids mean
        self._check_tokenizer(value, store, tokenizer)

  def _check_tokenizer(self, value: str, store, tokenizer):
    learnt = store.tokenizer()
    if tokenizer and self.adaptation and store is self.store:
      learnt = self.adaptation.begun(learnt)
    name, corruption = self.experiment.data.tokenizer, self.experiment.data.corruption
    recipe = None if tokenizer else tokenizers.learnt(name)
    tokenizer = tokenizer or (None if recipe else tokenizers.make(name, ()))
    if corruption:
      learnt = corrupt.extended(learnt, corruption)
      tokenizer = tokenizer and corrupt.extended(tokenizer, corruption)
    if tokenizer:
      is_other = learnt.digest != tokenizer.digest
    else:
      added = corruption.specials if corruption else ()
      is_other = learnt.size > recipe[1] + len(added)
    if is_other:
      own = store.tokenizer_path.absolute()
      raise Mistake(
        f"{value}={store.path} was trained with another tokenizer than "
        f"data.tokenizer={name}; wanted its own: "
        f"--config.data.tokenizer={shlex.quote(str(own))}"
      )


def teacher(experiment: Experiment, mesh, **options):
  """Returns the Teacher of an experiment, None where it learns from data alone.

  `options` are those of lm.train.teacher.Teacher. Raises Mistake when nothing of the
  experiment learns from the one that it names.
  """
  e = experiment
  how = objectives.teaching(e.objective, e.loss)
  path = e.teacher or (how and e.init.path)
  if not path:
    return None
  from lm import tasks
  from lm.train.teacher import Teacher

  task = tasks.make(e.task) if e.task else None
  if not how and not (task and task.learns):
    raise Mistake(
      f"teacher={e.teacher}, and objective {e.objective!r} learns from no other model; "
      "leave it out"
    )
  teacher = Teacher(path, e, mesh, **options)
  if task:
    task.check_teacher(teacher)
  return teacher


def prepare(experiment: Experiment, log=print, *, teacher=None):
  """Returns the Dataset of an experiment: that of its task, or of `data.source`.

  A `teacher`, that of the Plan, labels what a task trains on.
  """
  e = experiment
  if not e.task:
    return data.prepare(e.data, seq=e.seq, engine=e.prepare, log=log)
  from lm import tasks
  from lm.data import examples

  task = tasks.make(e.task)
  options = dict(seq=e.seq, teacher=teacher, log=log)
  if e.adapt:
    from lm import adapt

    options["begun"] = adapt.make(e.adapt).begun
  return examples.prepare(task, e.data, **options)


def row_shapes(experiment: Experiment) -> dict:
  """Returns the arrays of a row of an experiment, without data."""
  e = experiment
  if not e.task:
    return data.row_shapes(e.data, e.seq)
  from lm import tasks
  from lm.data import packed

  return packed.shapes(**tasks.make(e.task).layout(e.seq))


def check_rows(experiment: Experiment) -> None:
  """Raises Mistake unless the objective of an experiment reads its rows."""
  e = experiment
  if not e.task:
    return objectives.check_rows(e.objective, e.data.corrupt)
  if e.data.corruption:
    name = e.data.corrupt["name"]
    raise Mistake(
      f"data.corrupt.name={name!r}: a task makes its own rows; leave it out"
    )
  from lm import tasks

  if e.objective != tasks.kind(e.task["name"]).objective:
    objectives.check_rows(e.objective, {})


def plan(experiment: Experiment, devices=None) -> Plan:
  """Returns the Plan of an experiment on the devices (all of them by default).

  Raises Mistake for what can be checked without data: sizes, names, the mesh, the
  objective and its rows, the optimiser's tables, the stored parameters.
  """
  e, mesh = experiment, make_mesh(devices, **experiment.mesh)
  store, fresh = stores.open(e.init.path) if e.init.path else None, e.init.fresh
  if store is not None:
    vocabulary.refuse_prompt(store.tokenizer(), e.init.path)
    e = dataclasses.replace(e, model=store.completed(e.model))
    if e.task and not fresh:
      fresh = stores.fresh_head(store, e.model)
    store.check_fields(e.model, fresh=fresh)
  if e.init.embedding:
    from lm.stores import vector_files

    vector_files.check(e.init.embedding)
  # As many tokens as any mesh divides, until the data say how many there are.
  vocab = VOCAB_MULTIPLE * mesh.shape["tensor"]
  guide = teacher(e, mesh)
  if store or (guide and guide.reads_rows):
    vocab = (store or guide.store).fields["vocab"]
  model = models.build(**e.model, vocab=vocab)
  models.check_config(model)
  if 0 < model.config.context < e.seq:
    raise Mistake(
      f"seq={e.seq} is longer than the model's context={model.config.context}; make "
      "seq smaller or model.context larger"
    )
  adaptation = _adaptation(e, store, guide)
  plan = Plan(e, mesh, store, fresh, model.traits, adaptation, guide)
  if e.data.order == "carried" and not model.traits.carries:
    raise Mistake(
      f"data.rows={e.data.rows!r} carries a recurrent state from batch to batch, and "
      f"family {e.model['family']!r} has none; use 'concat'"
    )
  writes = model.traits.decodes and model.output == "tokens"
  if e.eval.sample_tokens and not writes:
    raise Mistake(
      f"eval.sample_tokens={e.eval.sample_tokens}, and family {e.model['family']!r} "
      f"with head={model.output!r} writes no text; wanted 0"
    )
  plan.check_tokenizer()
  objectives.check_model(e.objective, model, e.data.corrupt.get("name", ""))
  check_rows(e)
  batch = batch_shapes(row_shapes(e), batch=e.batch, mesh=mesh)
  adapter = plan.adapter(model)
  trainer = plan.trainer(model, batch, adapter=adapter)
  if store is not None:
    whole = adapter.shapes if adapter else trainer.abstract.params
    store.check(whole, fresh=fresh)
    store.check_trained(trainer.abstract.params)
  state = trainer.abstract
  apply, objective = model.apply, trainer.objective
  names = evaluate.names(apply, objective, state.params, batch, state.given)
  e.eval.score_of(dict.fromkeys(names, 0.0))
  return plan


def _adaptation(experiment: Experiment, store, guide):
  """Returns the Adaptation of an experiment, None without one."""
  e = experiment
  if not e.adapt:
    return None
  if not e.init.path or e.init.embedding:
    raise Mistake(
      f"adapt.name={e.adapt['name']!r} freezes what init.path has learnt; wanted "
      "init.path, and no init.embedding"
    )
  from lm import adapt

  options = dict(seq=e.seq, task=e.task)
  options["teacher"] = str(guide.path) if guide and guide.reads_rows else ""
  return adapt.make(e.adapt).fitted(store.tokenizer(), **options)
