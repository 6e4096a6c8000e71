"""The objects of a training run, when there are data: what `Plan.bind` returns."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lm.data.loader import Loader
from lm.train import Trainer
from lm.train.config import Experiment


@dataclass(frozen=True)
class Run:
  """The objects of a training run."""

  plan: Any  # the lm.train.compose.Plan
  dataset: Any
  model: Any
  trainer: Trainer
  batches: Loader  # of the training split, without end
  heldout: Loader  # of the held-out split, once, in order
  adapter: Any = None  # an lm.adapt.Adapter, where a part is trained
  stored: Any = None  # then: the parameters of the store by path

  @property
  def experiment(self) -> Experiment:
    """The description of the run."""
    return self.plan.experiment

  def start(self, key, log=print):
    """Returns a new TrainState, its parameters random or from where `init` names.

    Without `init.path` all parameters are drawn from `key`, with it those of
    `plan.fresh`.
    """
    init, state = self.experiment.init, self.trainer.init(key)
    if self.adapter is not None:
      state = state.replace(params=self.adapter.started(state.params, self.stored))
    elif self.plan.store is not None:
      params = self.plan.store.params(
        self.trainer.abstract.params, fresh=self.plan.fresh, drawn=state.params
      )
      state = state.replace(params=params)
    if init.embedding:
      from lm.stores import vectors

      table_VD = state.params["embed"]["table"]
      tokenizer = self.dataset.tokenizer
      table_VD, count = vectors.into_table(init.embedding, table_VD, tokenizer)
      log(
        f"{init.embedding}: {count} of {tokenizer.size} tokens start from its vectors"
      )
      embed = state.params["embed"] | {"table": table_VD}
      state = state.replace(params=state.params | {"embed": embed})
    if state.ema:
      # A copy: the state is donated, and no two of its leaves may share a buffer.
      state = state.replace(ema=jax.tree.map(jnp.copy, state.params))
    return state

  def params(self, state):
    """Returns the parameters of the model after an update: their moving average, if
    there is one."""
    params = state.ema or state.params
    if self.adapter is None:
      return params
    return jax.jit(self.adapter.merged)(params, state.given.frozen)
