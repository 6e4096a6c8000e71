"""Contrastive learning of embeddings: a text is nearer to its pair than to any other.

Henderson et al. 2017, arXiv:1705.00652, section 4.4, with cosines as in Sentence-BERT
(arXiv:1908.10084).
"""

import jax.numpy as jnp

from lm.nn.attention.masks import of_segments
from lm.objectives.scoring import add_auxiliary, class_sums, read


def contrastive(apply, params, batch, key, *, given=None, train=True, scale=20.0):
  """Returns the cross-entropy of each text's pair among all pairs of the batch.

  An example has two segments of a row, a text and its pair; its embeddings are the
  means of their tokens, and `scale` multiplies their cosines. text_BP and pair_BP are
  numbers that are equal where texts are: what is equal to a text, or to its pair, is no
  wrong answer. Micro-batches have only their own pairs. Sums over pairs with
  weights_BP: "loss", "nats_per_pair", "accuracy".
  """
  features = read(apply, params, batch, key, train)
  weights_BP = batch["weights_BP"]
  num = 2 * weights_BP.shape[1]
  x_BOD = means(features.x_BTD, batch["segments_BT"], num)
  x_RD, y_RD = (x_BOD[:, side::2].reshape(-1, x_BOD.shape[-1]) for side in (0, 1))
  text_R, pair_R, weights_R = (
    x_BP.reshape(-1) for x_BP in (batch["text_BP"], batch["pair_BP"], weights_BP)
  )
  own_R = jnp.arange(len(text_R))
  equal_RR = lambda x_R: x_R[:, None] == x_R[None]
  is_wrong_RR = ~(equal_RR(text_R) | equal_RR(pair_R)) & (weights_R > 0)[None]
  is_read_RR = is_wrong_RR | equal_RR(own_R)
  least = jnp.finfo(jnp.float32).min
  logits_RR = jnp.where(is_read_RR, scale * (x_RD @ y_RD.T), least)
  sums = class_sums("pair", logits_RR, own_R, weights_R)
  return add_auxiliary(sums, features.losses) if train else sums


def means(x_BTD, segments_BT, num: int):
  """Returns x_BOD of length one: the mean of the tokens of each segment from 1 on.

  That of a segment that does not exist is 0.
  """
  is_own_BOT = of_segments(segments_BT, num).astype(jnp.float32)
  x_BOD = jnp.einsum("BOT,BTD->BOD", is_own_BOT, x_BTD)
  squares_BO1 = jnp.sum(jnp.square(x_BOD), axis=-1, keepdims=True)
  # The root of 0 has no gradient.
  length_BO1 = jnp.sqrt(jnp.where(squares_BO1 > 0, squares_BO1, 1))
  return x_BOD / length_BO1
