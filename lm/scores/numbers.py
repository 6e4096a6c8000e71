"""Numbers: the correlations of two lists of them, and their difference."""

import numpy as np

from lm.scores.intervals import bootstrap, quantiles, resamples


def regression(actual_R, predicted_R) -> dict:
  """Returns both correlations and the mean absolute error, with 95 % intervals."""
  error_R = np.abs(actual_R - predicted_R)
  return correlations(actual_R, predicted_R) | {
    "mean_absolute_error": float(error_R.mean()),
    "mean_absolute_error_95": bootstrap(error_R),
    "records": len(actual_R),
  }


def correlations(x_R, y_R) -> dict:
  """Returns Pearson's and Spearman's correlation with their 95 % intervals.

  Those come from resampling the records; Spearman's ranks are anew in each sample. All
  are nan where one of the lists is constant.
  """
  x_R, y_R = (np.asarray(v_R, np.float64) for v_R in (x_R, y_R))
  values = {"pearson": [], "spearman": []}
  for times_BR in resamples(len(x_R)):
    values["pearson"].append(_pearson(x_R, y_R, times_BR))
    ranks_BR = (ranks_in(v_R, times_BR) for v_R in (x_R, y_R))
    values["spearman"].append(_pearson(*ranks_BR, times_BR))
  return {
    "pearson": pearson(x_R, y_R),
    "pearson_95": quantiles(values["pearson"]),
    "spearman": spearman(x_R, y_R),
    "spearman_95": quantiles(values["spearman"]),
  }


def pearson(x_R, y_R) -> float:
  """Returns Pearson's correlation; nan without spread."""
  x_R, y_R = (np.asarray(v_R, np.float64) for v_R in (x_R, y_R))
  return float(_pearson(x_R, y_R, np.ones((1, len(x_R))))[0])


def spearman(x_R, y_R) -> float:
  """Returns the correlation of ranks, ties sharing their mean; nan without spread."""
  return pearson(ranks(x_R), ranks(y_R))


def ranks(x_R) -> np.ndarray:
  """Returns the ranks from 0; equal numbers get the mean of their ranks."""
  return ranks_in(x_R, np.ones((1, len(x_R))))[0]


def ranks_in(x_R, times_BR) -> np.ndarray:
  """Returns the ranks of R numbers in samples that have each of them so many times."""
  values, index_R = np.unique(x_R, return_inverse=True)
  order_R = np.argsort(index_R, kind="stable")
  starts = np.searchsorted(index_R[order_R], np.arange(len(values)))
  counts_BV = np.add.reduceat(times_BR[:, order_R], starts, axis=1)
  return (np.cumsum(counts_BV, axis=1) - (counts_BV + 1) / 2)[:, index_R]


def _pearson(x_BR, y_BR, times_BR) -> np.ndarray:
  """Returns the correlation of each sample, in which records occur so many times."""
  total_B1 = times_BR.sum(1, keepdims=True)
  x_BR, y_BR = (
    v_BR - (v_BR * times_BR).sum(1, keepdims=True) / total_B1
    for v_BR in np.broadcast_arrays(x_BR, y_BR, times_BR)[:2]
  )
  norm_B = np.sqrt((x_BR**2 * times_BR).sum(1) * (y_BR**2 * times_BR).sum(1))
  product_B = (x_BR * y_BR * times_BR).sum(1)
  return np.divide(
    product_B, norm_B, out=np.full(len(norm_B), np.nan), where=norm_B > 0
  )
