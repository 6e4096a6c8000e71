"""Which words meet in the windows around them, drawn on the device from rows of text.

Mikolov et al. 2013 (arXiv:1301.3781, arXiv:1310.4546): frequent words are thinned out
before windows are laid, each window has a width of its own, and words are told apart
from noise words. A row of the text is closed up over its gaps and cut into blocks of
BLOCK centres; each block has one set of neighbours and one of noise, so that all its
scores are one matmul (the idea of arXiv:1604.04661) and no pair is ever listed.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake

BLOCK = 32  # centres with common neighbours: more waste scores, fewer waste matmuls
NOISE = 32  # noise words of a block; each weighs negatives / NOISE
SMOOTH = 0.75  # power of the counts that noise words follow; arXiv:1310.4546
SLACK = 1.25  # room in a row over what is kept of it on average


class Words:
  """What the counts of words decide: how many are kept, and how noise is drawn.

  A word that makes up a share f of all is kept with probability sqrt(s / f) + s / f, s
  being `sample`: the rule of the authors' program, which keeps a little more than the
  paper's. 0 keeps all. What has no count is no word, and is never kept or drawn. Arrays
  are NumPy's, constants of what is traced.
  """

  def __init__(self, counts_V, sample: float):
    if counts_V is None:
      raise Mistake("how often words occur is not known; give counts_V")
    counts_V = np.asarray(counts_V, np.float64)
    if sample < 0 or not counts_V.sum() > 0:
      raise Mistake(f"sample={sample:g}; wanted 0 or more, and counts above 0")
    share_V = counts_V / counts_V.sum()
    ratio_V = sample / np.where(counts_V > 0, share_V, 1)
    keep_V = np.minimum(1, np.sqrt(ratio_V) + ratio_V) if sample else 1
    self.keep_V = np.where(counts_V > 0, keep_V, 0).astype(np.float32)
    self.kept = float(share_V @ self.keep_V)  # of all words
    noise_V = counts_V**SMOOTH
    self.noise_V = (noise_V / noise_V.sum()).astype(np.float32)
    # In 32 bits, as 24 would lose the rarest words of a large vocabulary.
    ends_V = np.cumsum(noise_V / noise_V.sum()) * 2**32
    self._ends_V = np.minimum(ends_V, 2**32 - 1).astype(np.uint32)

  def noise(self, key, shape):
    """Ids of words, drawn by their counts to the power of SMOOTH."""
    bits = jax.random.bits(key, shape, jnp.uint32)
    found = jnp.searchsorted(jnp.asarray(self._ends_V), bits, side="right")
    return jnp.minimum(found, np.flatnonzero(self.noise_V)[-1]).astype(jnp.int32)


@dataclass(frozen=True)
class Windows:
  """Blocks of a text: B of them, T centres in each, S words that may be near these.

  W are the places of a window, its centre in the middle: window + 1 + window.
  """

  centres_BT: jax.Array
  near_BS: jax.Array
  weights_BT: jax.Array  # of the centres; 0 where there is none
  pairs_BTW: jax.Array  # how much each pair counts; 0 where it is no pair


def drawn(key, batch, words: Words, window: int) -> Windows:
  """The windows of one pass over a batch: thinned, each of 1 to `window` words a side.

  Words that do not fit, where a row keeps far more than the average one, are left out.
  """
  key_keep, key_reach = jax.random.split(key)
  rows = thinned(key_keep, batch, words)
  (centres, near), (here, there) = (blocks(x_BT, window) for x_BT in rows)
  reach = jax.random.randint(key_reach, (*centres.shape, 1), 1, window + 1)
  met = same(here, there, window) & (_apart(window)[None, None] <= reach)
  real, pairs = (x.astype(jnp.float32) for x in (here > 0, met))
  return Windows(centres, near, real, pairs)


def expected(batch, words: Words, window: int) -> Windows:
  """What `drawn` gives on average, but for the gaps that it closes: no chance in it.

  A pair at a distance d counts as much as both its words are kept, times the share of
  windows that are so wide, (window + 1 - d) / window.
  """
  keep_BT = jnp.asarray(words.keep_V)[batch["tokens_BT"]]
  segments_BT = _segments(batch, keep_BT > 0)
  rows = batch["tokens_BT"], segments_BT, keep_BT * (segments_BT > 0)
  found = (blocks(x_BT, window) for x_BT in rows)
  (centres, near), (here, there), (chance, other) = found
  wide_W = np.maximum(0, window + 1 - _apart(window)) / window
  pairs = same(here, there, window) * chance[..., None] * other[:, _places(window)]
  return Windows(centres, near, chance, pairs * wide_W.astype(np.float32)[None, None])


def noise_nats(read, x_BTD, words: Words):
  """noise_BT: what a noise word costs each x, the average over the vocabulary.

  `read` calls the model.
  """

  def one(x_TD):
    logits_TV = read(x_TD[None], method="readout")[0, :, : words.noise_V.size]
    return softplus(logits_TV) @ jnp.asarray(words.noise_V)

  return jax.lax.map(one, x_BTD)


def spread(x_BTW, window: int):
  """x_BTS with the places of every window where they lie in the block, else 0."""
  B, T, W = x_BTW.shape
  # Rows one longer than the block: when they are cut again, each moves on by one.
  S = T + 2 * window
  wide = jnp.pad(x_BTW, ((0, 0), (0, 0), (0, S + 1 - W)))
  return wide.reshape(B, T * (S + 1))[:, : T * S].reshape(B, T, S)


@jax.custom_vjp
def softplus(x):
  """log(1 + exp(x)), the nats of being wrong by x.

  The gradient is kept from the forward pass: XLA:CPU takes twice as long for JAX's own.
  """
  return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _softplus_forward(x):
  small = jnp.exp(-jnp.abs(x))
  slope = jnp.where(x > 0, 1, small) / (1 + small)
  return jnp.maximum(x, 0) + jnp.log1p(small), slope


softplus.defvjp(_softplus_forward, lambda slope, g: (g * slope,))


def _segments(batch, keep_BT):
  """segments_BT, 0 for what is not kept; of rows without segments, 1 for the rest."""
  keep_BT &= batch["weights_BT"] > 0
  segments_BT = batch.get("segments_BT", jnp.ones_like(batch["tokens_BT"]))
  return jnp.where(keep_BT, segments_BT, 0)


def thinned(key, batch, words: Words) -> list:
  """[ids, segments] of the words that are kept of each row, side by side; else 0."""
  ids_BT = batch["tokens_BT"]
  chance_BT = jnp.asarray(words.keep_V)[ids_BT]
  segments_BT = _segments(batch, jax.random.uniform(key, ids_BT.shape) < chance_BT)
  T = ids_BT.shape[1]
  size = min(T, math.ceil(T * words.kept * SLACK) + BLOCK // 2)
  return closed_up([ids_BT, segments_BT], segments_BT > 0, size)


def closed_up(arrays, keep_BT, size: int) -> list:
  """Each array_BT with the kept places side by side from the left, cut to `size`.

  What is left of a row holds zeros.
  """
  place_BT = jnp.where(keep_BT, jnp.cumsum(keep_BT, axis=1) - 1, size)
  row_B1 = jnp.arange(keep_BT.shape[0])[:, None]
  empty_BS = jnp.zeros((keep_BT.shape[0], size), jnp.int32)
  return [
    empty_BS.at[row_B1, place_BT].set(x_BT, mode="drop", unique_indices=True)
    for x_BT in arrays
  ]


def blocks(x_BT, window: int):
  """x_BT in blocks of BLOCK places, and the same with `window` more on either side.

  Blocks are rows of their own; what lies outside of a row is 0.
  """
  if window < 1:
    raise Mistake(f"window={window}; wanted 1 or more words on either side")
  B, T = x_BT.shape
  count = -(-T // BLOCK)
  padded = jnp.pad(x_BT, ((0, 0), (window, count * BLOCK - T + window)))
  at = np.arange(count)[:, None] * BLOCK + np.arange(BLOCK + 2 * window)[None]
  around = padded[:, at].reshape(B * count, -1)
  return around[:, window : window + BLOCK], around


def _places(window: int):
  """places_TW, where in a block's neighbours the window of each centre lies."""
  return np.arange(BLOCK)[:, None] + np.arange(2 * window + 1)[None]


def _apart(window: int):
  """apart_W, how far from its centre each place of a window lies; far for itself."""
  apart_W = np.abs(np.arange(2 * window + 1) - window)
  return np.where(apart_W > 0, apart_W, window + 1)


def same(here_BT, there_BS, window: int):
  """same_BTW: both are words, of one document."""
  there_BTW = there_BS[:, _places(window)]
  return (here_BT[..., None] == there_BTW) & (there_BTW > 0)
