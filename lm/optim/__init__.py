"""Optax chains; freezing, decay and learning rates per parameter.

A chain is: clip by global norm -> optimiser -> decay -> per-parameter rate -> schedule.
The decay is decoupled and multiplied by the learning rate for every optimiser (AdamW,
arXiv:1711.05101), so one value of `decay` means the same to all of them.

Parameters are known by their path ("blocks/attention/q") and by the letters of their
dimensions ("LDNH"). The letters say what the shape cannot: which dimensions only stack
(a leading L, or E of the experts, is never mixed with the rest) and which belong
together (N, K, G and H are one dimension of features, cut into heads).
"""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import optax

from lm import trees as alphabet
from lm.errors import Mistake
from lm.optim.orthogonal import orthogonalized
from lm.optim.schedules import SCHEDULES


def adamw(letters, betas=(0.9, 0.95)):
  """Adam; its decay is added by `make`. b2 as in GPT-3; 0.999 is usual for BERT."""
  return optax.scale_by_adam(*betas)


def lion(letters, betas=(0.9, 0.99)):
  """Lion (arXiv:2302.06675): the sign of the momentum.

  Wants an lr 3 to 10 times smaller, and a decay as much larger, than AdamW.
  """
  return optax.scale_by_lion(*betas)


def adafactor(letters):
  """Adafactor (arXiv:1804.04235) without momentum; lr is relative to a weight's RMS.

  Second moments of a matrix with both sides of 128 and more are kept as a row and a
  column. Every layer of a stacked weight is clipped and scaled by its own RMS; optax's
  own `adafactor` would take one RMS over all layers, and factor heads and layers.
  """

  def as_matrices(tree):
    return _map(lambda path, x: x.reshape(_matrix_shape(letters[path], x.shape)), tree)

  def relative(updates, params):
    def one(path, u, p):
      axes = tuple(range(_stacked(letters[path]), u.ndim))
      rms = lambda x: jnp.sqrt(jnp.mean(jnp.square(x), axes, keepdims=True))
      # 1.0 and 1e-3 are the paper's clipping threshold d and epsilon_2.
      return (u / jnp.maximum(1.0, rms(u)) * jnp.maximum(1e-3, rms(p))).astype(u.dtype)

    return _map(one, updates, params)

  factored = optax.scale_by_factored_rms()

  def update(updates, state, params):
    out, state = factored.update(as_matrices(updates), state, as_matrices(params))
    return jax.tree.map(lambda u, like: u.reshape(like.shape), out, updates), state

  init = lambda params: factored.init(as_matrices(params))
  return optax.chain(
    optax.GradientTransformation(init, update), optax.stateless(relative)
  )


def muon(letters, betas=(0.9, 0.95)):
  """Muon for the matrices inside, Adam for the rest: embeddings, read-out, rank 1.

  Momentum orthogonalised per layer by five Newton-Schulz steps (Jordan 2024), scaled by
  0.2 * sqrt(max(in, out)) so that lr and decay can stay AdamW's (arXiv:2502.16982).
  `betas` are Adam's; the momentum of Muon is 0.95.
  """
  inside = {path: _is_inside(name) for path, name in letters.items()}

  def one(path, u):
    matrix = u.reshape(_matrix_shape(letters[path], u.shape, least=0))
    scale = 0.2 * math.sqrt(max(matrix.shape[-2:]))
    return scale * orthogonalized(matrix).reshape(u.shape)

  turned = optax.stateless(lambda updates, params: _map(one, updates))
  return optax.partition(
    dict(
      muon=optax.chain(optax.trace(0.95, nesterov=True), turned),
      adam=optax.scale_by_adam(*betas),
    ),
    lambda tree: _map(lambda path, _: "muon" if inside[path] else "adam", tree),
  )


OPTIMISERS = dict(adamw=adamw, adafactor=adafactor, lion=lion, muon=muon)


def make(
  *,
  name,
  lr,
  schedule,
  warmup,
  num_steps,
  decay,
  clip,
  params,
  dims,
  final=0.1,
  betas=(),
  freeze=(),
  decay_mult=(),
  lr_mult=(),
):
  """The optax chain, and the learning rate as a function of the step (from 0).

  `params` is the tree of arrays or shapes, `dims` that of their letters
  (`lm.letters.letters`). clip 0 switches clipping off; `final` is the fraction of lr at
  the end of the schedule; `betas` () are the optimiser's own. The three tables hold
  (regex, value) pairs and are read by `assign`:
  - freeze: value True gets no update, no state, and no say in the global norm;
  - decay_mult: multiplies `decay`; empty: 1 for matrices, 0 for rank 1 within a layer
    (norms and biases, also those with heads like "LNH");
  - lr_mult: multiplies the whole update, its decay included.
  Raises Mistake for unknown names, for values out of their range and for tables that
  do not fit the parameters.
  """
  optimiser = _choose("optimiser", OPTIMISERS, name)
  _check(final, betas, lr=lr, decay=decay, clip=clip)
  if betas and name == "adafactor":
    raise Mistake("adafactor has no betas; leave betas empty")
  if not 0 <= warmup <= num_steps:
    raise Mistake(f"warmup={warmup} must be within 0 and num_steps={num_steps}")
  rate = _choose("schedule", SCHEDULES, schedule)(lr, warmup, num_steps, final)
  paths = jax.tree.leaves(_map(lambda path, _: path, params))
  letters = dict(zip(paths, jax.tree.leaves(dims), strict=True))
  is_matrix = lambda path: len(_groups(letters[path])) > 1
  frozen = assign("freeze", freeze, letters, default=lambda _: False)
  decays = assign("decay_mult", decay_mult, letters, default=is_matrix)
  rates = assign("lr_mult", lr_mult, letters, default=lambda _: 1.0)
  if all(frozen.values()):
    raise Mistake("freeze leaves no parameter to train; give one the value False")

  links = [_clipped(clip)] if clip else []
  links.append(optimiser(letters, tuple(betas)) if betas else optimiser(letters))
  if decay:
    add = lambda path, u, p: u + decay * decays[path] * p if decays[path] else u
    links.append(optax.stateless(lambda us, ps: _map(add, us, ps)))
  if lr_mult:
    scale = lambda path, u: rates[path] * u
    links.append(optax.stateless(lambda us, ps: _map(scale, us)))
  links.append(optax.scale_by_learning_rate(rate))
  return _frozen(optax.chain(*links), frozen), rate


def _check(final, betas, **values):
  """Mistake for a value out of its range."""
  for name, value in values.items():
    if not value >= 0:
      raise Mistake(f"{name}={value}; wanted 0 or more")
  if not 0 <= final <= 1:
    raise Mistake(f"final={final}; wanted a share of lr, 0 to 1")
  # A third number would be Adam's epsilon.
  pair = isinstance(betas, tuple | list) and len(betas) in (0, 2)
  if not pair or not all(0 <= b < 1 for b in betas):
    raise Mistake(
      f"betas={betas}; wanted two numbers of 0 or more, less than 1, or () for the "
      "optimiser's own"
    )


def assign(table_name, table, paths, default) -> dict:
  """The value of every path, from a table of (regex, value): the first match wins.

  A regex has to match the whole path. An empty table gives default(path). Any other has
  to cover all paths, so that nobody forgets one; end it in (".*", value) for the rest.
  Raises Mistake naming the paths left over, or a regex that is none or decides
  nothing.
  """
  if not table:
    return {path: default(path) for path in paths}
  values = {}
  for row in table:
    if isinstance(row, str) or len(row) != 2:
      raise Mistake(f"{table_name} must hold (regex, value) pairs; got {row!r}")
    regex, value = row
    try:
      matched = [path for path in paths if re.fullmatch(regex, path)]
    except re.error as error:
      raise Mistake(f"{table_name}: {regex!r} is no regex: {error}") from None
    new = [path for path in matched if path not in values]
    values |= dict.fromkeys(new, value)
    if not new:
      why = "only matches what rows before it take" if matched else "matches nothing"
      raise Mistake(
        f"{table_name}: {regex!r} {why}; the parameters are {', '.join(paths)}"
      )
  missing = [path for path in paths if path not in values]
  if missing:
    raise Mistake(
      f"{table_name} does not cover {', '.join(missing)}; add rows for them, or end it "
      'in (".*", value)'
    )
  return values


def _clipped(limit):
  """Updates scaled down to a global norm of `limit` where theirs is larger.

  As `optax.clip_by_global_norm` up to rounding: one number times every leaf, which XLA
  merges with what comes next, in place of a division and a choice.
  """

  def scaled(updates, params):
    scale = jnp.minimum(1, limit / optax.tree.norm(updates))
    return jax.tree.map(partial(jnp.multiply, scale), updates)

  return optax.stateless(scaled)


def _frozen(tx, frozen):
  """`tx` for the trained parameters; no update and no state for the frozen ones."""
  if not any(frozen.values()):
    return tx
  # Minus zero, since adding zero would turn a weight of -0.0 into 0.0.
  still = optax.stateless_with_tree_map(lambda u, _: jnp.full_like(u, -0.0))
  label = lambda path, _: "frozen" if frozen[path] else "trained"
  parts = dict(trained=tx, frozen=still)
  return optax.partition(parts, lambda tree: _map(label, tree))


def _choose(kind, table, name):
  if name not in table:
    raise Mistake(f"no {kind} {name!r}; found: {', '.join(sorted(table))}")
  return table[name]


def _map(function, *trees):
  """tree.map that gives the path too. By path, since masks leave holes in the trees."""
  named = lambda path, *leaves: function(alphabet.path_name(path), *leaves)
  return jax.tree_util.tree_map_with_path(named, *trees)


def _stacked(name) -> int:
  """How many of the first dimensions only stack: layers, and experts behind them."""
  return len(name) - len(name.removeprefix("L").removeprefix("E"))


def _groups(name) -> list:
  """The positions of the dimensions that are not stacked, those of heads together.

  Two groups for the matrices "LDNH" and "LDIF", one for the biases "LNH" and "LIF".
  """
  groups = []
  for i in range(_stacked(name), len(name)):
    pair = {name[i], name[i - 1]}
    if groups and any(pair <= set(one) for one in ("NKGH", "IF", "GM")):
      groups[-1].append(i)
    else:
      groups.append([i])
  return groups


def _is_inside(name) -> bool:
  """Whether Muon suits a weight: a matrix, no table of tokens, classes or taps."""
  return len(_groups(name)) == 2 and not set(name) & set("VTSCW")


def _matrix_shape(name, shape, least=128):
  """(*stacked, rows, columns), or the shape itself when a side is below `least`."""
  groups = _groups(name)
  if len(groups) != 2:
    return shape
  rows, columns = (math.prod(shape[i] for i in group) for group in groups)
  if min(rows, columns) < least:
    return shape
  return (*shape[: _stacked(name)], rows, columns)
