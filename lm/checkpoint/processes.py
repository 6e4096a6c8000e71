"""Decisions that the processes of one run take together."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from lm.errors import Mistake


def agreed(decide) -> int:
  """Returns, on all processes, the number from 0 up that `decide` returns on process 0.

  An error of `decide` is raised on process 0, and a Mistake about it on the others.
  """
  if jax.process_count() == 1:
    return decide()
  number, error = -1, None
  if jax.process_index() == 0:
    try:
      number = decide()
    except Exception as problem:
      error = problem
  number = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
  if number < 0:
    raise error or Mistake("the run cannot go on; process 0 says why")
  return number
