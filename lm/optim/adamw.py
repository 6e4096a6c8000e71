"""AdamW."""

import optax


def adamw(letters, betas=()):
  """Returns Adam (arXiv:1412.6980); `lm.optim.make` adds the decoupled decay to it.

  Args:
    letters: not read; see the protocol in `lm.optim`.
    betas: decay rates of the first and second moment; () means (0.9, 0.95), as in
      GPT-3 (arXiv:2005.14165, appendix B). BERT takes (0.9, 0.999).
  """
  return optax.scale_by_adam(*(betas or (0.9, 0.95)))
