"""The training state: what an update reads and returns, created sharded."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from lm import trees
from lm.letters import letters_of, shardings, state_dims, unbox


@struct.dataclass
class TrainState:
  """The arrays that an update reads and returns; no keys and no functions.

  An update changes all but `given`. `ema`, `carry` and `given` are () in a run that has
  none of them.
  """

  step: jax.Array  # updates made so far
  params: Any
  opt: Any  # the optimiser's state
  ema: Any  # a moving average of params
  carry: Any = ()  # the recurrent state after the last batch, as `State.carried` has it
  given: Any = ()  # arrays that nobody trains (teacher, word counts): never saved

  def saved(self):
    """Returns the state without what is not saved."""
    return self.replace(given=())


def make_init(init, tx, mesh, *, ema=False, carry: Callable | None = None, given=None):
  """Returns (make, abstract, letters): a creator of a TrainState, and its shapes.

  Args:
    init: key -> the parameters, boxed with their letters (see `lm.letters.weight`).
    tx: the optimiser.
    ema: whether a moving average of the parameters is kept.
    carry: () -> the recurrent state that the first batch starts from, if any.
    given: a tree of arrays that nobody trains, or of their shapes.

  `make(key)` returns the state, created sharded: no device ever holds all of it.
  `abstract` is its tree of shapes with shardings, `letters` the letters of the
  parameters' dimensions.
  """
  boxed = jax.eval_shape(init, jax.random.key(0))
  params, letters = unbox(boxed), letters_of(boxed)
  given = () if given is None else given

  def create(key):
    params = unbox(init(key))
    average = params if ema else ()
    state = carry() if carry else ()
    return TrainState(jnp.int32(0), params, tx.init(params), average, state)

  shapes = jax.eval_shape(create, jax.random.key(0))
  shape_of = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
  shapes = shapes.replace(given=jax.tree.map(shape_of, given))
  where = shardings(mesh, state_dims(shapes, params, letters), shapes)
  created = jax.jit(create, out_shardings=where.saved())

  def make(key) -> TrainState:
    # Placed, not traced: the arrays of `given` must not become constants of a program.
    return created(key).replace(given=jax.device_put(given, where.given))

  return make, trees.placed(shapes, where), letters
