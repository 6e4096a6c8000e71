"""Output heads: of encoders, and the classes of a text read by a decoder or an LSTM.

The heads of BERT (arXiv:1810.04805, section 3) and RoBERTa (arXiv:1907.11692); classes
from the last token as GPT (Radford et al. 2018, section 3.2).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, one_of, positive
from lm.letters import constrain
from lm.nn.attention.masks import of_segments
from lm.nn.layers import ACTIVATIONS, Norm
from lm.nn.linear import linear

HEADS = (
  "none",  # x_BTD itself
  "tokens",  # logits of the token that belongs in each place, over the vocabulary
  "next",  # logits: the second part of the row follows the first, or does not
  "classes",  # logits of the row's class
  "labels",  # logits of every token's class
  "span",  # logits of every token to start, and to end, the answer in the row
)
# The first names of the parameters that belong to a head; all others are the body's.
PARTS = ("head", "bias", "pooler", "follows", "hidden", "classifier")
LAST_PARTS = ("head", "classifier")  # those of a `LastHead`
HIDDEN = {"tanh": jnp.tanh, "relu": jax.nn.relu}


@dataclass(frozen=True)
class TaskHead:
  """The output head of an encoder."""

  head: str = "tokens"  # see HEADS
  classes: int = 2  # of "classes" and "labels"
  # A tanh layer over the first token; with "tokens", also for "next".
  pooler: bool = False
  hidden: str = ""  # "classes": "tanh" or "relu" layer of its own, not the pooler

  def __post_init__(self):
    one_of("head", self.head, HEADS)
    if self.hidden:
      one_of("hidden", self.hidden, HIDDEN)
    if self.classes < 1 or (self.classes != 2 and not self.classifies):
      raise Mistake(
        f"classes={self.classes} with head={self.head!r}; wanted 1 or more, and 2 "
        "where it is neither 'classes' nor 'labels'"
      )
    if self.hidden and self.head != "classes":
      raise Mistake(f"hidden={self.hidden!r} is for head='classes', not {self.head!r}")
    if self.head in ("next", "classes") and not (self.pooler or self.hidden):
      raise Mistake(f"head={self.head!r} reads the pooler; set pooler=True")

  @property
  def classifies(self) -> bool:
    """True if there are as many outputs as `classes`."""
    return self.head in ("classes", "labels")

  @property
  def follows(self) -> bool:
    """True if there is a next-sentence classifier: its own head, or with "tokens"."""
    return self.head == "next" or (self.head == "tokens" and self.pooler)


@dataclass(frozen=True)
class LastHead:
  """The output head of a model that reads from left to right."""

  head: str = "tokens"  # or "classes": of the whole row, from its last token
  classes: int = 2  # of "classes"
  tied: bool = True  # the readout of tokens is the embedding

  def __post_init__(self):
    one_of("head", self.head, ("tokens", "classes"))
    positive(self, "classes")


def require_head(model, head: str):
  """Raises Mistake when a model with a `LastHead` has another head than `head`."""
  if model.config.task.head != head:
    own = model.config.task.head
    raise Mistake(f"this model has head={own!r}; wanted one with head={head!r}")


class LastClassifier(nn.Module, kw_only=True):
  """logits_BPC: a linear layer without a bias on the last token of each text."""

  classes: int
  dtype: str

  @nn.compact
  def __call__(self, x_BTD, segments_BT, num: int):
    x_BPD = token_of_each(x_BTD, segments_BT, num, last=True)
    shape = (x_BTD.shape[-1], self.classes)
    return linear(self, "w", "BPD,DC->BPC", x_BPD, shape, dtype=self.dtype)


def token_of_each(x_BTD, segments_BT, num: int, *, last: bool):
  """x_BPD: the first or the last token of the texts 1 to P = max(1, num) of each row.

  Without segments the row is one text. A text that does not exist gets any token.
  """
  if segments_BT is None:
    return x_BTD[:, -1:] if last else x_BTD[:, :1]
  is_text_BPT = of_segments(segments_BT, max(1, num))
  if last:
    index_BP = segments_BT.shape[1] - 1 - jnp.argmax(is_text_BPT[..., ::-1], axis=-1)
  else:
    index_BP = jnp.argmax(is_text_BPT, axis=-1)
  return jnp.take_along_axis(x_BTD, index_BP[..., None], axis=1)


class TokenTransform(nn.Module, kw_only=True):
  """A dense layer, the activation and a norm before the masked-token readout (BERT)."""

  activation: str  # see lm.nn.layers.ACTIVATIONS
  eps: float  # of the norm
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    D = x_BTD.shape[-1]
    # The output, as wide, has another letter: an einsum cannot have D twice.
    h_BTF = linear(
      self, "dense", "BTD,DF->BTF", x_BTD, (D, D), dtype=self.dtype, bias=True
    )
    h_BTD = constrain(ACTIVATIONS[self.activation](h_BTF), "BTD")
    return Norm(kind="layer", eps=self.eps, bias=True, name="norm")(h_BTD)


class Dense(nn.Module, kw_only=True):
  """y_BTC: a linear layer with a bias on x_BTD."""

  size: int  # C
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    shape = (x_BTD.shape[-1], self.size)
    return linear(self, "w", "BTD,DC->BTC", x_BTD, shape, dtype=self.dtype, bias=True)
