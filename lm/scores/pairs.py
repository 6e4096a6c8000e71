"""Pairs: how often the one that people chose has the higher value."""

import numpy as np

from lm.scores.intervals import bootstrap, wilson


def preferred(difference_R, name: str, mean: str = "") -> dict:
  """Returns the share of pairs with a difference above 0, and perhaps the mean.

  `difference_R` is the value of the chosen one less that of the other. The interval of
  the share is Wilson's, that of the mean, which is called `mean`, comes from resampling
  the pairs. A tie does not count: a model that knows nothing has 0.
  """
  difference_R = np.asarray(difference_R, np.float64)
  hits, total = int(np.sum(difference_R > 0)), len(difference_R)
  scores = {name: hits / total, f"{name}_95": wilson(hits, total)}
  if mean:
    scores |= {mean: float(difference_R.mean()), f"{mean}_95": bootstrap(difference_R)}
  return scores
