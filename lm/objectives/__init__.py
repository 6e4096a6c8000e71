"""Objectives: the losses and metrics of training and evaluation, as sums.

An objective is a function

  objective(apply, params, batch, key, *, given=None, train=True) -> sums

of a model's `apply`, its parameters, a batch of arrays by name and a key for everything
random (None when `train` is False). It returns named pairs of sums,

  {"loss": (sum, weight), "nats_per_token": (sum, weight), "accuracy": (hits, count)}

and never a mean: pairs are added up over devices, micro-batches and batches, and
divided once at the end. "loss" is what training minimises; every other name is reported
as it stands ("train/accuracy", "eval/accuracy"), so that a new metric is a new name
here and nothing else. A recurrent state that the next batch continues from comes back
under the reserved name "carry".

`given` holds arrays that nobody trains (a teacher's parameters, word frequencies). An
objective that needs any defines, in the same file, `given(dataset, **options)`, which
returns them; `dataset` is None when only shapes are wanted, before there are data.

`lm/objectives/<name>.py` defines the function `<name>`: adding the file is registering
it. Keyword-only parameters after `train` are its options, which the config's group
`loss` sets.
"""

import sys
from functools import partial

from lm import lookup


def make(name: str, options: dict | None = None, dataset=None):
  """Returns (objective, given) by the name of an objective, with its options set.

  Raises Mistake for a name that does not exist. Example:

    objective, _ = make("next_token", {"z_loss": 1e-4})
  """
  function, options = lookup.function("lm.objectives", name), options or {}
  requirements = getattr(sys.modules[function.__module__], "given", None)
  given = requirements(dataset, **options) if requirements else None
  return partial(function, **options) if options else function, given
