"""Windows of words around each word, drawn on the device from rows of text.

Mikolov et al. 2013 (arXiv:1301.3781, arXiv:1310.4546): frequent words are thinned out
before windows are laid, each window has a width of its own, and words are classified
against noise words. A row of the text is closed up over its gaps and cut into blocks of
BLOCK centres; each block has one set of neighbours and one of noise, so that all its
scores are one matmul (the idea of arXiv:1604.04661) and no pair is ever listed.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lm.errors import Mistake

BLOCK = 32  # centres with common neighbours: more waste scores, fewer waste matmuls
NOISE = 32  # noise words of a block; each weighs negatives / NOISE
SMOOTH = 0.75  # power of the counts that noise words follow; arXiv:1310.4546
SLACK = 1.25  # room in a row over what is kept of it on average


@struct.dataclass
class Words:
  """The probabilities to keep words, and to draw noise words; see `from_counts`."""

  keep_V: jax.Array  # the probability that an occurrence is kept; 0 for what is no word
  noise_V: jax.Array  # the distribution of noise words
  ends_V: jax.Array  # its running sums, in 2**-32
  last: jax.Array  # the last id that may be drawn
  kept: float = struct.field(pytree_node=False)  # the share of all words that is kept

  @classmethod
  def from_counts(cls, counts_V, sample: float):
    """Returns the Words of a vocabulary whose ids occur counts_V times, 0 for no words.

    A word that makes up a share f of all is kept with probability sqrt(s / f) + s / f,
    s being `sample`: the rule of the authors' program, which keeps a little more than
    the paper's. 0 keeps all. An id without a count is never kept or drawn. Raises
    Mistake for a negative `sample`, and when nothing occurs.
    """
    counts_V = np.asarray(counts_V, np.float64)
    if sample < 0 or not counts_V.sum() > 0:
      raise Mistake(f"loss.sample={sample:g}; wanted 0 or more, and a text with words")
    share_V = counts_V / counts_V.sum()
    ratio_V = sample / np.where(counts_V > 0, share_V, 1)
    keep_V = np.minimum(1, np.sqrt(ratio_V) + ratio_V) if sample else 1
    keep_V = np.where(counts_V > 0, keep_V, 0).astype(np.float32)
    noise_V = counts_V**SMOOTH
    noise_V /= noise_V.sum()
    # In 32 bits, as 24 would lose the rarest words of a large vocabulary.
    ends_V = np.minimum(np.cumsum(noise_V) * 2**32, 2**32 - 1).astype(np.uint32)
    noise_V = noise_V.astype(np.float32)
    last = np.int32(np.flatnonzero(noise_V)[-1])
    return cls(keep_V, noise_V, ends_V, last, kept=float(share_V @ keep_V))

  def noise(self, key, shape):
    """Returns ids of words, drawn by their counts to the power of SMOOTH."""
    bits = jax.random.bits(key, shape, jnp.uint32)
    ids = jnp.searchsorted(jnp.asarray(self.ends_V), bits, side="right")
    return jnp.minimum(ids, self.last).astype(jnp.int32)


@dataclass(frozen=True)
class Windows:
  """Blocks of a text: B of them, T centres in each, S words that may be their
  neighbours.

  W are the offsets in a window, the centre in the middle: window + 1 + window.
  """

  centres_BT: jax.Array
  neighbours_BS: jax.Array
  weights_BT: jax.Array  # of the centres; 0 where there is none
  pairs_BTW: jax.Array  # the weight of each pair; 0 where it is no pair


def sample_windows(key, batch, words: Words, window: int) -> Windows:
  """Returns the windows of one pass: words subsampled, widths drawn from 1 to `window`.

  Words that do not fit, where a row keeps far more than the average row, are left out.
  """
  keep_key, width_key = jax.random.split(key)
  rows = subsample(keep_key, batch, words)
  (centres, neighbours), (segments, near_segments) = (blocks(x, window) for x in rows)
  width = jax.random.randint(width_key, (*centres.shape, 1), 1, window + 1)
  is_pair = is_same_document(segments, near_segments, window)
  is_pair &= _distance(window)[None, None] <= width
  is_word, pairs = (x.astype(jnp.float32) for x in (segments > 0, is_pair))
  return Windows(centres, neighbours, is_word, pairs)


def expected_windows(batch, words: Words, window: int) -> Windows:
  """Returns the deterministic expectation of `sample_windows`.

  A pair at distance d counts as much as both its words are kept, times the share of
  windows that are so wide, (window + 1 - d) / window. That dropped words close gaps is
  ignored.
  """
  keep_BT = jnp.asarray(words.keep_V)[batch["tokens_BT"]]
  segments_BT = _segments(batch, keep_BT > 0)
  rows = batch["tokens_BT"], segments_BT, keep_BT * (segments_BT > 0)
  (centres, neighbours), (segments, near_segments), (keep, near_keep) = (
    blocks(x_BT, window) for x_BT in rows
  )
  share_W = np.maximum(0, window + 1 - _distance(window)) / window
  pairs = is_same_document(segments, near_segments, window) * keep[..., None]
  pairs *= near_keep[:, _offsets(window)]
  pairs *= share_W.astype(np.float32)[None, None]
  return Windows(centres, neighbours, keep, pairs)


def expected_noise_nats(read, x_BTD, words: Words):
  """Returns nats_BT: the cost of a noise word for each x, averaged over the vocabulary.

  `read` applies the model.
  """

  def row(x_TD):
    logits_TV = read(x_TD[None], method="readout")[0, :, : words.noise_V.size]
    return softplus(logits_TV) @ jnp.asarray(words.noise_V)

  return jax.lax.map(row, x_BTD)


def by_neighbour(x_BTW, window: int):
  """Returns x_BTS: the values of each window at its neighbours in the block, else 0."""
  B, T, W = x_BTW.shape
  # Rows one longer than the block: when they are cut again, each is shifted by one.
  S = T + 2 * window
  wide = jnp.pad(x_BTW, ((0, 0), (0, 0), (0, S + 1 - W)))
  return wide.reshape(B, T * (S + 1))[:, : T * S].reshape(B, T, S)


@jax.custom_jvp
def softplus(x):
  """Returns log(1 + exp(x)), the nats of a binary classifier that is wrong by x.

  The slope is saved in the forward pass: XLA:CPU takes twice as long for JAX's own
  rule.
  """
  return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
  (x,), (dx,) = primals, tangents
  small = jnp.exp(-jnp.abs(x))
  slope = jnp.where(x > 0, 1, small) / (1 + small)
  return jnp.maximum(x, 0) + jnp.log1p(small), slope * dx


def _segments(batch, keep_BT):
  """Returns segments_BT, 0 for words that are dropped; 1 in rows without segments."""
  keep_BT &= batch["weights_BT"] > 0
  segments_BT = jnp.ones_like(batch["tokens_BT"])
  if "segments_BT" in batch:
    segments_BT = batch["segments_BT"]
  return jnp.where(keep_BT, segments_BT, 0)


def subsample(key, batch, words: Words) -> list:
  """Returns [ids, segments] of each row's kept words, moved to the left; 0 behind."""
  ids_BT = batch["tokens_BT"]
  keep_BT = jnp.asarray(words.keep_V)[ids_BT]
  segments_BT = _segments(batch, jax.random.uniform(key, ids_BT.shape) < keep_BT)
  T = ids_BT.shape[1]
  size = min(T, math.ceil(T * words.kept * SLACK) + BLOCK // 2)
  return compact([ids_BT, segments_BT], segments_BT > 0, size)


def compact(arrays, keep_BT, size: int) -> list:
  """Returns each array_BT with the kept entries moved to the left, cut to `size`.

  The rest of a row is zeros.
  """
  index_BT = jnp.where(keep_BT, jnp.cumsum(keep_BT, axis=1) - 1, size)
  row_B1 = jnp.arange(keep_BT.shape[0])[:, None]
  zeros_BS = jnp.zeros((keep_BT.shape[0], size), jnp.int32)
  return [
    zeros_BS.at[row_B1, index_BT].set(x_BT, mode="drop", unique_indices=True)
    for x_BT in arrays
  ]


def blocks(x_BT, window: int):
  """Returns x_BT in blocks of BLOCK positions, and the same with `window` more per
  side.

  Blocks become rows; positions outside of a row are 0. Raises Mistake for window < 1.
  """
  if window < 1:
    raise Mistake(f"loss.window={window}; wanted 1 or more words on either side")
  B, T = x_BT.shape
  count = -(-T // BLOCK)
  padded = jnp.pad(x_BT, ((0, 0), (window, count * BLOCK - T + window)))
  index = np.arange(count)[:, None] * BLOCK + np.arange(BLOCK + 2 * window)[None]
  wide = padded[:, index].reshape(B * count, -1)
  return wide[:, window : window + BLOCK], wide


def _offsets(window: int):
  """Returns index_TW: where each centre's window lies among a block's neighbours."""
  return np.arange(BLOCK)[:, None] + np.arange(2 * window + 1)[None]


def _distance(window: int):
  """Returns distance_W from the centre; the centre itself counts as out of reach."""
  distance_W = np.abs(np.arange(2 * window + 1) - window)
  return np.where(distance_W > 0, distance_W, window + 1)


def is_same_document(segments_BT, near_segments_BS, window: int):
  """Returns a mask BTW: both are words, of one document."""
  near_BTW = near_segments_BS[:, _offsets(window)]
  return (segments_BT[..., None] == near_BTW) & (near_BTW > 0)
