"""Classes: accuracy and macro F1."""

import numpy as np

from lm.scores.intervals import SAMPLES, wilson


def classification(actual_R, predicted_R, *, classes: int) -> dict:
  """Returns accuracy, macro F1, their 95 % intervals, and the commonest class's share.

  The interval of accuracy is Wilson's; that of macro F1 comes from resampling the
  records. The last is what a constant answer scores.
  """
  counts_CC = np.bincount(
    actual_R * classes + predicted_R, minlength=classes**2
  ).reshape(classes, classes)
  total, hits = counts_CC.sum(), int(np.trace(counts_CC))
  rng = np.random.default_rng(0)
  drawn = rng.multinomial(total, counts_CC.ravel() / total, size=SAMPLES)
  resampled = macro_f1(drawn.reshape(SAMPLES, classes, classes))
  return {
    "accuracy": hits / total,
    "accuracy_95": wilson(hits, total),
    "macro_f1": float(macro_f1(counts_CC)),
    "macro_f1_95": tuple(map(float, np.quantile(resampled, (0.025, 0.975)))),
    "commonest_class": float(counts_CC.sum(1).max() / total),
    "records": int(total),
  }


def macro_f1(counts_CC):
  """Returns the mean F1 of the classes that occur, from counts[..., actual, predicted].

  As scikit-learn's f1_score(average="macro", zero_division=0).
  """
  hits = np.diagonal(counts_CC, axis1=-2, axis2=-1)
  both = counts_CC.sum(-1) + counts_CC.sum(-2)  # 2 hits + misses + false alarms
  occurs = both > 0
  f1 = np.where(occurs, 2 * hits / np.where(occurs, both, 1), 0.0)
  return f1.sum(-1) / np.maximum(occurs.sum(-1), 1)
