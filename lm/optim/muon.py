"""Muon: momentum made orthogonal, for the matrices between embedding and read-out."""

import math

import jax.numpy as jnp
import optax

from lm import trees
from lm.nn import cpu
from lm.optim.matrices import is_hidden, matrix_shape
from lm.optim.rules import map_with_path

MOMENTUM = 0.95
STEPS = 5
# Of the odd polynomial a x + b x^3 + c x^5 (Jordan 2024): steep at 0 rather than exact
# at 1, so that five steps bring every singular value above 0.01 to between 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)


def muon(letters, betas=()):
  """Returns Muon for hidden matrices and Adam for the rest.

  The rest are norms, biases and tables: embeddings, read-outs, positions, classes.

  Args:
    letters: letters of every parameter: a tree like the parameters, or {path: letters}.
    betas: Adam's; () means (0.9, 0.95). The momentum of Muon is 0.95.
  """
  letters = trees.by_path(letters)
  label = lambda path, _: "muon" if is_hidden(letters[path]) else "adam"
  parts = dict(
    muon=scale_by_muon(letters), adam=optax.scale_by_adam(*(betas or (0.9, 0.95)))
  )
  return optax.partition(parts, lambda tree: map_with_path(label, tree))


def scale_by_muon(letters, *, momentum: float = MOMENTUM):
  r"""Replaces updates of matrices by their orthogonalised Nesterov momentum.

  .. math::
    M_t = \mu M_{t-1} + G_t, \quad
    U_t = 0.2 \sqrt{\max(m, n)} \cdot \mathrm{orthogonalize}(G_t + \mu M_t)

  for an :math:`m \times n` matrix. The factor gives an update the RMS that is usual of
  AdamW's, so that a learning rate and a decay serve both (Liu et al. 2025, section
  2.2). A stacked weight is orthogonalised layer by layer, and the heads of a projection
  are columns of one matrix.

  Args:
    letters: letters of the dimensions of every matrix, "LDNH": a tree like the
      parameters, or {path: letters}.
    momentum: :math:`\mu`.

  Returns:
    The transformation; its updates are of matrices only, see `muon` for a whole model.

  Example:
    >>> import jax.numpy as jnp, optax
    >>> params = {"q": jnp.ones((2, 8, 2, 4))}
    >>> tx = optax.chain(
    ...   scale_by_muon({"q": "LDNH"}), optax.scale_by_learning_rate(1e-2))
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> updates["q"].shape
    (2, 8, 2, 4)

  References:
    Jordan, `Muon: An optimizer for hidden layers in neural networks
    <https://kellerjordan.github.io/posts/muon>`_, 2024

    Liu et al., `Muon is Scalable for LLM Training
    <https://arxiv.org/abs/2502.16982>`_, 2025
  """
  letters = trees.by_path(letters)

  def orthogonal(path, u):
    matrix = u.reshape(matrix_shape(letters[path], u.shape))
    scale = 0.2 * math.sqrt(max(matrix.shape[-2:]))
    return scale * orthogonalize(matrix).reshape(u.shape)

  return optax.chain(
    optax.trace(momentum, nesterov=True),
    optax.stateless(lambda updates, params: map_with_path(orthogonal, updates)),
  )


def orthogonalize(x_RQ, dtype=jnp.bfloat16):
  """Returns U V^T of x = U S V^T, but for singular values of 0.7 to 1.2 in place of 1.

  Newton-Schulz iterations on x / |x| of matrices RQ, which more dimensions may precede:
  operands in `dtype`, sums in float32. bfloat16 is what Jordan published, and is three
  times as fast as float32 on a CPU with AMX. A matrix of zeros stays one.
  """

  def product(x, y):
    return jnp.matmul(x.astype(dtype), y.astype(dtype), preferred_element_type="f4")

  wide = x_RQ.shape[-2] <= x_RQ.shape[-1]  # the square products are of the smaller side
  a, b, c = QUINTIC
  norm = jnp.sqrt(jnp.sum(jnp.square(x_RQ), axis=(-2, -1), keepdims=True))
  x_RQ = x_RQ / (norm + 1e-8)
  for _ in range(STEPS):
    x_QR = cpu.transpose(x_RQ.astype(dtype))
    x2 = product(x_RQ, x_QR) if wide else product(x_QR, x_RQ)
    even = b * x2 + c * product(x2, x2)
    x_RQ = a * x_RQ + (product(even, x_RQ) if wide else product(x_RQ, even))
  return x_RQ
