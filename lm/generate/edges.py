"""The tokens that a text begins and ends with, whatever the model says of them.

As in `transformers`: a model that translates is made to begin with the code of a
language (forced_bos_token_id), and one whose text is cut by its limit to end it there
(forced_eos_token_id). In beam search a forced token scores nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

NONE = -1  # in place of an id


@struct.dataclass
class Forced:
  """Ids that rows of a batch have to begin and to end with; NONE for none."""

  first_B: jax.Array
  last: jax.Array  # of a text that its limit ends

  @classmethod
  def of(cls, firsts, last, size: int) -> "Forced":
    """Returns those of `size` rows; `firsts` are ids or None, of the first rows."""
    first_B = np.full(size, NONE, np.int32)
    first_B[: len(firsts)] = [NONE if id is None else id for id in firsts]
    return cls(first_B, np.int32(NONE if last is None else last))

  def take(self, rows_B) -> "Forced":
    """Returns those of the rows with these indices."""
    return self.replace(first_B=self.first_B[rows_B])

  def ids(self, step, is_last):
    """Returns id_B: the one that every row has to get as token `step`, or NONE."""
    first_B = jnp.where(step == 0, self.first_B, NONE)
    return jnp.where(is_last & (self.last != NONE), self.last, first_B)

  def over(self, tokens_B, step, is_last):
    """Returns the tokens of a step with those that are forced in their place."""
    forced_B = self.ids(step, is_last)
    return jnp.where(forced_B == NONE, tokens_B, forced_B)


def is_stop(tokens, stop_ids):
  """True where a token is one of the stop ids; same shape as `tokens`."""
  return jnp.any(tokens[..., None] == stop_ids[(None,) * tokens.ndim], axis=-1)
