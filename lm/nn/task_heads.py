"""What an encoder says of a row, and the layers that say it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from lm.errors import Mistake, one_of
from lm.letters import constrain
from lm.nn.layers import ACTIVATIONS, Norm
from lm.nn.linear import linear

# What a model says: x_BTD itself; the token that belongs in each place; whether the
# second part of a row follows the first; a class of the row, or of every token; where
# in the row an answer starts and where it ends.
HEADS = ("none", "tokens", "next", "classes", "labels", "span")
# The parameters of a model that are of its head; all others are of its body.
PARTS = ("head", "bias", "pooler", "follows", "hidden", "classifier")
HIDDEN = {"tanh": jnp.tanh, "relu": jax.nn.relu}


@dataclass(frozen=True)
class Says:
  """What the model says of a row."""

  head: str = "tokens"  # see HEADS
  classes: int = 2  # of "classes" and "labels"
  pooler: bool = False  # a layer over the first token; with "tokens", also for "next"
  hidden: str = ""  # "classes": its own such layer, "tanh" or "relu", not the pooler's

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
    return self.head in ("classes", "labels")

  @property
  def follows(self) -> bool:
    """Whether it tells if the second part of a row follows the first."""
    return self.head == "next" or (self.head == "tokens" and self.pooler)


class Hidden(nn.Module):
  """x_BTD as the masked-token readout wants it: a layer, the activation, a norm."""

  activation: str
  eps: float
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    D = x_BTD.shape[-1]
    # The same width under another letter: an einsum cannot say D twice.
    h_BTF = linear(
      self, "dense", "BTD,DF->BTF", x_BTD, (D, D), dtype=self.dtype, bias=True
    )
    h_BTD = constrain(ACTIVATIONS[self.activation](h_BTF), "BTD")
    return Norm("layer", self.eps, bias=True, name="norm")(h_BTD)


class Dense(nn.Module):
  """y_BTC, one layer on x_BTD."""

  size: int
  dtype: str

  @nn.compact
  def __call__(self, x_BTD):
    shape = (x_BTD.shape[-1], self.size)
    return linear(self, "w", "BTD,DC->BTC", x_BTD, shape, dtype=self.dtype, bias=True)
