"""Matrices made orthogonal, near enough, by matrix products alone."""

import jax.numpy as jnp

from lm.nn.linear import transposed

STEPS = 5
# Of the odd polynomial a x + b x^3 + c x^5 (Jordan 2024): steep at 0 rather than exact
# at 1, so that five steps bring every singular value above 0.01 to between 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalized(x_IJ, dtype=jnp.bfloat16):
  """U V^T of x = U S V^T, with singular values of about 1; more dimensions may precede.

  Newton-Schulz iterations on x / |x|, operands in `dtype`, sums in float32. bfloat16 is
  what Jordan published (kellerjordan.github.io/posts/muon), and is three times as fast
  on a CPU with AMX. A matrix of zeros stays one.
  """

  def product(x, y):
    return jnp.matmul(x.astype(dtype), y.astype(dtype), preferred_element_type="f4")

  wide = x_IJ.shape[-2] <= x_IJ.shape[-1]  # the square products are of the smaller side
  a, b, c = QUINTIC
  norm = jnp.sqrt(jnp.sum(jnp.square(x_IJ), axis=(-2, -1), keepdims=True))
  x_IJ = x_IJ / (norm + 1e-8)
  for _ in range(STEPS):
    x_JI = transposed(x_IJ.astype(dtype))
    x2 = product(x_IJ, x_JI) if wide else product(x_JI, x_IJ)
    even = b * x2 + c * product(x2, x2)
    x_IJ = a * x_IJ + (product(even, x_IJ) if wide else product(x_IJ, even))
  return x_IJ
