"""Retrieval: the place of each text's pair among the pairs of all."""

import numpy as np

from lm.scores.intervals import bootstrap, wilson


def retrieval(cosine_RR, same_RR) -> dict:
  """Returns how often the right pair is the nearest, and the mean reciprocal rank.

  `cosine_RR` are those of texts (rows) and pairs (columns), the right one of each on
  the diagonal; `same_RR` is True where a pair is as right, being the same text.
  """
  own_R1 = np.diagonal(cosine_RR)[:, None]
  rank_R = 1 + np.sum((cosine_RR > own_R1) & ~same_RR, axis=1)
  hits = int(np.sum(rank_R == 1))
  return {
    "recall_at_1": hits / len(rank_R),
    "recall_at_1_95": wilson(hits, len(rank_R)),
    "mean_reciprocal_rank": float(np.mean(1 / rank_R)),
    "mean_reciprocal_rank_95": bootstrap(1 / rank_R),
    "records": len(rank_R),
  }
