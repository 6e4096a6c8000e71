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
  last_B: jax.Array  # of a text that its limit ends

  @classmethod
  def of(cls, firsts, last, size: int) -> "Forced":
    """Returns those of `size` rows; `firsts` are ids or None, of the first rows."""
    first_B = np.full(size, NONE, np.int32)
    first_B[: len(firsts)] = [NONE if id is None else id for id in firsts]
    return cls(first_B, np.full(size, NONE if last is None else last, np.int32))

  def take(self, rows_B) -> "Forced":
    """Returns those of the rows with these indices."""
    return Forced(self.first_B[rows_B], self.last_B[rows_B])

  def ids(self, length, is_last):
    """Returns id_B: the one that a row of `length` tokens has to get, or NONE."""
    first_B = jnp.where(length == 0, self.first_B, NONE)
    return jnp.where(is_last & (self.last_B != NONE), self.last_B, first_B)

  def over(self, tokens_B, length, is_last):
    """Returns tokens of rows of `length`, with those that are forced in their place."""
    forced_B = self.ids(length, is_last)
    return jnp.where(forced_B == NONE, tokens_B, forced_B)


def is_stop(tokens, stop_ids):
  """True where a token is one of the stop ids in the last dimension of `stop_ids`."""
  return jnp.any(tokens[..., None] == stop_ids, axis=-1)
