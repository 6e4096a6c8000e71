"""Pairs of answers, the chosen one and the rejected one, in a row of segments.

Of the pair at place p the chosen answer is segment 2 p + 1 and the rejected one
2 p + 2, each with the prompt in front; `weights_BP` is 0 where there is no pair.
"""

import jax.numpy as jnp

from lm.nn.attention.masks import of_segments


def side_sums(values_BT, batch):
  """Returns (chosen_BP, rejected_BP): sums of values over the tokens of each side."""
  is_side_BOT = of_segments(batch["segments_BT"], 2 * batch["weights_BP"].shape[1])
  sums_BO = jnp.sum(jnp.where(is_side_BOT, values_BT[:, None], 0), axis=-1)
  return split(sums_BO)


def split(values_BO):
  """Returns (chosen_BP, rejected_BP) of values by segment, without segment 0."""
  return values_BO[:, ::2], values_BO[:, 1::2]


def pair_sums(weights_BP, **values) -> dict:
  """Returns {name: (sum over pairs, pairs)} of values_BP by name."""
  count = jnp.sum(weights_BP)
  return {
    name: (jnp.sum(value_BP * weights_BP), count) for name, value_BP in values.items()
  }
