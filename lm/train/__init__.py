"""Training: where a model, an objective, an optimiser and a mesh become a step.

  trainer = build(model, "next_token", Optim(lr=1e-3), batch=batch, num_steps=100)
  state = trainer.init(jax.random.key(0))
  state, metrics = trainer.step(state, batch, jax.random.key(1))

state.py has the TrainState, step.py the update and loop.py the loop that drives it.
config.py describes a run, compose.py makes its objects of the description, and run.py
trains it in a folder. simple.py trains in one call, without config and folder.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lm import objectives, optim
from lm.errors import Mistake
from lm.letters import abstract_of, make_mesh
from lm.models import INPUTS
from lm.train.loop import Diverged, Hook, fit
from lm.train.state import TrainState, make_init
from lm.train.step import make_step

__all__ = ["Diverged", "Hook", "TrainState", "Trainer", "build", "fit", "make_step"]

# Arrays of a batch that need not be read: evaluation adds bytes_BT to every batch, and
# rows of text have targets_BT, which objectives over windows of words do not read.
OPTIONAL = ("bytes_BT", "targets_BT")


class Trainer(NamedTuple):
  """The functions and shapes of a training run on one mesh, as `build` returns them."""

  init: Any  # key -> TrainState, created sharded
  abstract: Any  # the state's shapes and shardings
  letters: Any  # the letters of the parameters' dimensions
  step: Any  # (state, batch, root key) -> (state, metrics); donates the state
  objective: Any  # the function
  given: Any  # arrays that nobody trains, as passed to `build`
  mesh: Any


def build(
  model,
  objective,
  optimiser,
  mesh=None,
  *,
  batch,
  num_steps=None,
  init=None,
  given=None,
  frozen=(),
  carries=False,
) -> Trainer:
  """Returns the Trainer of a model: the one place where an update is assembled.

  Args:
    model: a model of `lm.models`, or any linen module with `features` and `readout`.
    objective: a function as `lm.objectives` describes it, or the name of one.
    optimiser: an `lm.optim.Optim`, or any optax.GradientTransformation.
    mesh: where it runs; by default on the first device.
    batch: the arrays of a batch by name, or their shapes.
    num_steps: the length of the schedule; only an Optim needs it.
    init: key -> boxed parameters in place of the model's own (an adapter's, say).
    given: arrays that nobody trains; by default what the named objective needs.
    frozen: pairs (parameters, letters) of the model, where `given` holds some of it.
    carries: whether each batch continues from the recurrent state of the one before.

  Raises Mistake for another kind of optimiser, for a batch with an array that neither
  the model nor the objective reads, and for sizes that do not fit the mesh.
  """
  mesh = mesh or make_mesh(jax.devices()[:1])
  if isinstance(objective, str):
    objective, required = objectives.make(objective)
    given = required if given is None else given
  tokens_BT = jnp.zeros((1, batch["tokens_BT"].shape[1]), jnp.int32)
  init = init or (lambda key: model.init(key, tokens_BT)["params"])
  tx, schedule, accumulate, ema = _update(optimiser, num_steps, *abstract_of(init))
  carry = None
  if carries:
    carry = lambda: model.init_cache(batch["tokens_BT"].shape[0], 0).carried()
  make, abstract, letters = make_init(
    init, tx, mesh, ema=ema > 0, carry=carry, given=given, frozen=frozen
  )
  step = make_step(
    model.apply,
    objective,
    tx,
    schedule=schedule,
    accumulate=accumulate,
    ema_decay=ema,
    abstract=abstract,
  )
  check_batch(model, objective, abstract, batch)
  given = () if given is None else given
  return Trainer(make, abstract, letters, step, objective, given, mesh)


def _update(optimiser, num_steps, params, letters) -> tuple:
  """Returns (the transformation, its schedule or None, micro-batches, decay of ema)."""
  if isinstance(optimiser, optim.Optim):
    tx, schedule = optim.make(
      optimiser, num_steps=num_steps, params=params, letters=letters
    )
    return tx, schedule, optimiser.accumulate, optimiser.ema
  if not isinstance(optimiser, optax.GradientTransformation):
    raise Mistake(
      f"optimiser={optimiser!r}; wanted an lm.optim.Optim, such as Optim(name='muon'), "
      "or an optax.GradientTransformation"
    )
  return optimiser, None, 1, 0.0


class _Recorded(dict):
  """A batch that records the names of its arrays that were read."""

  def __init__(self, arrays, names=None):
    super().__init__(arrays)
    self.names = set() if names is None else names

  def __getitem__(self, name):
    self.names.add(name)
    return super().__getitem__(name)

  def get(self, name, default=None):
    self.names.add(name)
    return super().get(name, default)

  def __missing__(self, name):
    raise Mistake(
      f"the objective reads {name}, which the batch lacks; it has "
      f"{', '.join(sorted(self))}"
    )

  def __or__(self, arrays):
    return _Recorded({**self, **arrays}, self.names)


def check_batch(model, objective, abstract, batch):
  """Raises Mistake for an array of a batch that nobody reads, or that is missing."""
  names = set()

  def trace(params, batch, given):
    key = jax.random.key(0)
    return objective(model.apply, params, _Recorded(batch, names), key, given=given)

  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(batch))
  foreign = set(shapes) & set(INPUTS) - set(model.traits.reads)
  if foreign:
    raise Mistake(
      f"the batch has {min(foreign)}, which family {_family(model)!r} does not read; "
      f"it reads tokens_BT, {', '.join(model.traits.reads)}"
    )
  jax.eval_shape(trace, abstract.params, shapes, abstract.given)
  unread = set(shapes) - names - set(OPTIONAL)
  if unread:
    raise Mistake(
      f"nothing reads {min(unread)} of a batch: neither family {_family(model)!r} nor "
      "the objective; leave it out"
    )


def _family(model) -> str:
  return type(model).__module__.rpartition(".")[2]
