"""Prompt tuning: vectors of a prompt before every text, all else frozen.

  cfg.adapt = dict(name="prompt", length=20)

Lester et al. 2021, arXiv:2104.08691, for any family with a table of tokens. The prompt
is `length` ids behind the vocabulary, which the run's tokenizer puts before every text
(lm/data/tokenizers/prompted.py), so that packing, masks, positions and caches are those
of any text. Their vectors alone are trained. No logit is theirs: a table that is also
the readout is read without them there.

They start from vectors of the vocabulary, drawn from its first COMMON ids, which a
learnt vocabulary sorts by frequency (section 3.2, "sampled vocabulary").
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from lm import adapt
from lm.data.tokenizers import prompted, vocabulary
from lm.errors import Mistake, positive
from lm.nn import linear

COMMON = 5000  # as many as in the paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptation(adapt.Adaptation):
  """The vectors of a prompt."""

  length: int = 20  # tokens of the prompt

  def __post_init__(self):
    positive(self, "length")

  def begun(self, tokenizer):
    return prompted.begun(tokenizer, self.length)

  def fitted(self, tokenizer, *, seq: int, task: dict, teacher="") -> "Fitted":
    """Returns the adaptation with the ids of its prompt.

    Raises Mistake without a task or a tokenizer, for rows that the prompt fills, and
    for a teacher that reads them.
    """
    if teacher:
      raise Mistake(
        f"adapt.name='prompt' begins each text with ids of its own, and {teacher} "
        "reads the same rows and has none; wanted another objective, or adapt.name=lora"
      )
    if not task:
      raise Mistake(
        "adapt.name='prompt' begins each text of a task, and data.source has rows cut "
        "anywhere; wanted task.name"
      )
    if self.length >= seq:
      raise Mistake(
        f"adapt.length={self.length} leaves no room for a text in seq={seq}; wanted a "
        "shorter prompt, or longer rows"
      )
    if tokenizer is None:
      raise Mistake(
        "adapt.name='prompt' needs a tokenizer beside the model of init.path"
      )
    first = vocabulary.front(self.begun(tokenizer))[0]
    return Fitted(length=self.length, train=self.train, first=first)

  def added(self, weights: dict) -> dict:
    tables = [path for path, weight in weights.items() if is_table(weight)]
    if len(tables) != 1:
      raise Mistake(
        "adapt.name='prompt' needs one frozen table of tokens, and the model has "
        f"{', '.join(tables) or 'none'}"
      )
    [path] = tables
    shape = (self.length, weights[path].shape[1])
    draw = partial(jax.random.uniform, shape=shape)
    return {
      f"{path}/prompt": lambda key: nn.LogicallyPartitioned(draw(key), ("V", "D"))
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted(Adaptation):
  """The same with its place behind the ids of a tokenizer."""

  first: int  # the id of its first token

  def joined(self, weight, base, arrays: dict):
    return Prompted(base, arrays["prompt"], self.first)

  def merged(self, weight, base, arrays: dict):
    """Returns a Prompted: no array of the model's shape does the same."""
    return self.joined(weight, base, arrays)

  def started(self, weight, base, arrays: dict) -> dict:
    """Returns vectors of the tokens that the drawn numbers choose."""
    share_V = arrays["prompt"][:, 0]
    ids_V = (share_V * min(COMMON, self.first, len(base))).astype(jnp.int32)
    return {"prompt": linear.take(base, ids_V)}


def is_table(weight: adapt.Weight) -> bool:
  """True for a table that vectors of tokens are taken from."""
  return weight.letters == "VD" and weight.path == "embed/table"


@struct.dataclass
class Prompted(linear.Weight):
  """A table of tokens with the vectors of a prompt, whose ids begin at `first`."""

  base: jax.Array
  prompt: jax.Array
  first: int = struct.field(pytree_node=False)

  @property
  def shape(self) -> tuple[int, ...]:
    return self.base.shape

  def take(self, ids):
    place = ids - self.first
    is_own = (place >= 0) & (place < len(self.prompt))
    own = linear.take(self.prompt, jnp.where(is_own, place, 0))
    base = jax.lax.stop_gradient(self.base)
    return jnp.where(
      is_own[..., None], own, linear.take(base, jnp.where(is_own, 0, ids))
    )

  def dot(self, equation: str, x, dtype):
    """Returns the product with the table alone: no logit is a prompt's."""
    return linear.dot(equation, x, jax.lax.stop_gradient(self.base), dtype)

  def __array__(self, dtype=None, copy=None):
    """Returns a table for numpy that has the vector of each id in its row."""
    end = self.first + len(self.prompt)
    base_VD = np.asarray(self.base, dtype)
    table_VD = np.pad(base_VD, [(0, max(0, end - len(base_VD))), (0, 0)])
    table_VD[self.first : end] = self.prompt
    return table_VD
