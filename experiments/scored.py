"""The experiment that a model is scored by: its own, or that of --config."""

import dataclasses

from experiments import config
from lm import objectives, stores
from lm.errors import Mistake
from lm.train.config import Experiment


def trained(path, *, needed=True) -> Experiment | None:
  """Returns the Experiment of a run.

  For a model without one it returns None, or raises Mistake where it is `needed`.
  """
  values = stores.open(path).config
  if "data" not in values and not needed:
    return None
  if "data" not in values:
    raise Mistake(
      f"{path} was not trained by `train` and has no data to be scored on; add "
      f"--config={config.SHOWN}, one with the text that you want, or --tasks=pack"
    )
  return Experiment.of(values)


def adapted(experiment, path, model, tokenizer) -> Experiment:
  """Returns the experiment with a model's tokenizer, and rows within its context."""
  if tokenizer is None:
    raise Mistake(f"{path} has no tokenizer; text needs one")
  corruption = experiment.data.corrupt.get("name", "")
  objectives.check_model(experiment.objective, model, corruption)
  tokenizer_path = str(stores.open(path).tokenizer_path.absolute())
  seq = min(experiment.seq, model.config.context or experiment.seq)
  changed = dataclasses.replace(experiment.data, tokenizer=tokenizer_path)
  return dataclasses.replace(experiment, data=changed, seq=seq)
