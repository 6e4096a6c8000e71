"""Lion."""

import optax


def lion(letters, betas=()):
  """Returns Lion (arXiv:2302.06675): the sign of an interpolated momentum.

  The paper takes an lr 3 to 10 times smaller than AdamW's, and a decay larger by the
  same factor.

  Args:
    letters: not read; see the protocol in `lm.optim`.
    betas: decay rates of the interpolation and of the momentum; () means (0.9, 0.99).
  """
  return optax.scale_by_lion(*(betas or (0.9, 0.99)))
