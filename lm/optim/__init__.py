"""Optimisers as optax chains, with freezing, decay and learning rates per parameter.

A chain is: clip by global norm -> optimiser -> decay -> per-parameter rate -> schedule.
The decay is decoupled and multiplied by the learning rate for every optimiser (AdamW,
arXiv:1711.05101), so that one value of `decay` means the same to all of them.

To add an optimiser, write `lm/optim/<name>.py` with a function of that name,

  def name(letters, betas) -> optax.GradientTransformation

that scales gradients; clipping, decay and the rate are added by `make`. `letters` are
{path: letters of the dimensions} of the parameters, {"blocks/attention/q": "LDNH"},
and all optimisers take them, whether they read them or not (see `lm.optim.matrices`).
`betas` are two decay rates of running means, or () for the optimiser's own; one without
such rates raises Mistake when they are given. A schedule is added in the same way, see
`lm.optim.schedules`.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax

from lm import lookup, trees
from lm.errors import Mistake, not_negative, positive
from lm.optim import rules
from lm.optim.matrices import is_matrix


@dataclass(frozen=True)
class Optim:
  """The options of an update of parameters; raises Mistake for values out of range.

  The three tables hold (regex, value) pairs; `lm.optim.rules.assign` reads them.
  """

  name: str = "adamw"  # of a file of lm/optim
  lr: float = 3e-4  # the peak of the schedule
  schedule: str = "cosine"  # of a file of lm/optim/schedules
  warmup: int = 0  # steps; at most num_steps of them
  final: float = 0.1  # share of lr at the end of the schedule
  betas: tuple = ()  # two decay rates of running means; () means the optimiser's own
  decay: float = 0.1  # weight decay, multiplied by the learning rate
  clip: float = 1.0  # largest global norm of the gradient; 0 means no clipping
  accumulate: int = 1  # micro-batches that a batch is cut into
  ema: float = 0.0  # decay rate of the parameters' running mean; 0 means none is kept
  # Of what is True: no update, no state, and no share in the global norm. Example:
  # (("embed/.*", True), (".*", False)).
  freeze: tuple = ()
  # Multiplies `decay`. Empty: 1 for matrices, 0 for rank 1 within a layer (norms and
  # biases, also those with heads like "LNH").
  decay_mult: tuple = ()
  lr_mult: tuple = ()  # multiplies the whole update, its decay included

  def __post_init__(self):
    lookup.function("lm.optim", self.name)
    lookup.function("lm.optim.schedules", self.schedule)
    not_negative(self, "lr", "warmup", "decay", "clip")
    positive(self, "accumulate")
    if not 0 <= self.final <= 1:
      raise Mistake(f"final={self.final}; wanted a share of lr, 0 to 1")
    if not 0 <= self.ema < 1:
      raise Mistake(f"ema={self.ema}; wanted 0 or more, less than 1")
    # A third number would be Adam's epsilon.
    is_pair = isinstance(self.betas, tuple | list) and len(self.betas) in (0, 2)
    if not is_pair or not all(0 <= beta < 1 for beta in self.betas):
      raise Mistake(
        f"betas={self.betas}; wanted two numbers of 0 or more, less than 1, or () for "
        "the optimiser's own"
      )
    for table in ("freeze", "decay_mult", "lr_mult"):
      rules.check(table, getattr(self, table))


def make(optim: Optim, *, num_steps: int, params, letters):
  """Returns the optax chain, and the learning rate as a function of the step (from 0).

  Args:
    optim: the settings; `accumulate` and `ema` are the training step's, see `lm.train`.
    num_steps: the length of the schedule.
    params: the tree of parameters, or of their shapes.
    letters: the tree of the letters of their dimensions, see `lm.letters.letters_of`.

  Raises Mistake when tables do not fit the parameters, and when all are frozen.

  Example:
    >>> import jax.numpy as jnp
    >>> params, letters = {"up": jnp.ones((2, 8, 16))}, {"up": "LDF"}
    >>> optim = Optim("lion", lr=1e-4, schedule="constant", decay=0.0)
    >>> tx, schedule = make(optim, num_steps=10, params=params, letters=letters)
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> float(updates["up"][0, 0, 0]), float(schedule(9))
    (-9.999999747378752e-05, 9.999999747378752e-05)
  """
  paths = list(trees.by_path(params))
  letters = dict(zip(paths, jax.tree.leaves(letters), strict=True))
  decays = rules.assign(
    "decay_mult", optim.decay_mult, letters, lambda path: is_matrix(letters[path])
  )
  rates = rules.assign("lr_mult", optim.lr_mult, letters, lambda path: 1.0)
  frozen = rules.assign("freeze", optim.freeze, letters, lambda path: False)
  if all(frozen.values()):
    raise Mistake("freeze leaves no parameter to train; give one the value False")
  schedule = make_schedule(optim, num_steps)
  links = [_clip_by_global_norm(optim.clip)] if optim.clip else []
  optimiser = lookup.function("lm.optim", optim.name)
  links.append(optimiser(letters, tuple(optim.betas)))
  if optim.decay:
    links.append(_add_decayed_weights(optim.decay, decays))
  if optim.lr_mult:
    links.append(_scale_by_path(rates))
  links.append(optax.scale_by_learning_rate(schedule))
  return _trained_only(optax.chain(*links), frozen), schedule


def make_schedule(optim: Optim, num_steps: int):
  """Returns the learning rate as a function of the step, from 0.

  A warm-up of more steps than there are takes all of them: a short trial of a long run
  needs no other value.
  """
  function = lookup.function("lm.optim.schedules", optim.schedule)
  return function(optim.lr, min(optim.warmup, num_steps), num_steps, optim.final)


def _clip_by_global_norm(limit):
  """Scales updates down to a global norm of `limit` where it is larger.

  Equal to `optax.clip_by_global_norm` up to rounding: every leaf is multiplied by one
  number, which XLA merges with the optimiser, instead of divided and then selected.
  """

  def update(updates, params):
    scale = jnp.minimum(1, limit / optax.tree.norm(updates))
    return jax.tree.map(partial(jnp.multiply, scale), updates)

  return optax.stateless(update)


def _add_decayed_weights(decay, multipliers):
  """Adds decay * multiplier * parameter, with a multiplier per path."""

  def add(path, u, p):
    return u + decay * multipliers[path] * p if multipliers[path] else u

  return optax.stateless(lambda us, ps: rules.map_with_path(add, us, ps))


def _scale_by_path(multipliers):
  """Multiplies every update by the multiplier of its path."""
  scale = lambda path, u: multipliers[path] * u
  return optax.stateless(lambda us, ps: rules.map_with_path(scale, us))


def _trained_only(tx, frozen):
  """Applies `tx` to the trained parameters; the frozen ones get no update, no state."""
  if not any(frozen.values()):
    return tx
  # Minus zero, since adding zero would turn a weight of -0.0 into 0.0.
  zero = optax.stateless_with_tree_map(lambda u, _: jnp.full_like(u, -0.0))
  label = lambda path, _: "frozen" if frozen[path] else "trained"
  parts = dict(trained=tx, frozen=zero)
  return optax.partition(parts, lambda tree: rules.map_with_path(label, tree))
