"""Adafactor, layer by layer."""

import jax
import jax.numpy as jnp
import optax

from lm import trees
from lm.errors import Mistake
from lm.optim.matrices import matrix_shape, num_stacked
from lm.optim.rules import map_with_path

LEAST = 128  # a matrix with a smaller side keeps all its second moments, as in optax
CLIP, LEAST_RMS = 1.0, 1e-3  # the paper's clipping threshold d and epsilon_2


def adafactor(letters, betas=()):
  """Returns `scale_by_adafactor`; Mistake when betas are given, as it has none."""
  if betas:
    raise Mistake("adafactor has no betas; leave betas empty")
  return scale_by_adafactor(letters)


def scale_by_adafactor(letters) -> optax.GradientTransformation:
  r"""Scales updates by factored second moments and by the weight's RMS.

  With the second moments :math:`R` (row means) and :math:`C` (column means) of a
  weight :math:`X`, decayed by :math:`1 - t^{-0.8}`, and its gradient :math:`G`:

  .. math::
    \hat{V} = R C / \mathrm{mean}(R), \quad U = G / \sqrt{\hat{V}}, \quad
    U \leftarrow U / \max(1, \mathrm{RMS}(U) / d) \cdot
    \max(\epsilon_2, \mathrm{RMS}(X))

  so that the learning rate is relative to the weight's RMS. There is no momentum. Every
  layer of a stacked weight has its own RMS and its own factors, and heads are columns
  of one matrix; `optax.adafactor` takes one RMS over all layers, and may factor heads
  and layers. Weights with a side below 128 are not factored.

  Args:
    letters: letters of the dimensions of every parameter, "LDNH": a tree like the
      parameters, or {path: letters}.

  Returns:
    The transformation. `update` needs `params`.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> params = {"up": jnp.ones((2, 128, 256)), "scale": jnp.ones((2, 128))}
    >>> letters = {"up": "LDF", "scale": "LD"}
    >>> tx = optax.chain(
    ...   scale_by_adafactor(letters), optax.scale_by_learning_rate(1e-2))
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> state[0][0].v_row["up"].shape, state[0][0].v_col["up"].shape
    ((2, 128), (2, 256))

  References:
    Shazeer and Stern, `Adafactor: Adaptive Learning Rates with Sublinear Memory Cost
    <https://arxiv.org/abs/1804.04235>`_, 2018
  """
  letters = trees.by_path(letters)
  factored = optax.scale_by_factored_rms(min_dim_size_to_factor=LEAST)

  def as_matrices(tree):
    def as_matrix(path, x):
      return x.reshape(matrix_shape(letters[path], x.shape, least=LEAST))

    return map_with_path(as_matrix, tree)

  def init(params):
    return factored.init(as_matrices(params))

  def update(updates, state, params):
    scaled, state = factored.update(as_matrices(updates), state, as_matrices(params))
    return jax.tree.map(lambda u, like: u.reshape(like.shape), scaled, updates), state

  def relative(path, u, p):
    return _relative(u, p, num_stacked(letters[path]))

  return optax.chain(
    optax.GradientTransformation(init, update),
    optax.stateless(lambda updates, params: map_with_path(relative, updates, params)),
  )


def _relative(u, p, stacked: int):
  """Returns the update u, clipped to an RMS of CLIP, times the RMS of its parameter p.

  The first `stacked` dimensions have an RMS for each of their elements.
  """
  axes = tuple(range(stacked, u.ndim))
  rms = lambda x: jnp.sqrt(jnp.mean(jnp.square(x), axes, keepdims=True))
  clipped = u / jnp.maximum(CLIP, rms(u))
  return (clipped * jnp.maximum(LEAST_RMS, rms(p))).astype(u.dtype)
