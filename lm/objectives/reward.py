"""Reward models: a number for an answer, higher for the chosen one of a pair.

The loss of Bradley and Terry (1952) as in InstructGPT, arXiv:2203.02155, equation 1.
"""

import jax
import jax.numpy as jnp

from lm.errors import Mistake
from lm.objectives.scoring import add_auxiliary, read
from lm.objectives.sides import pair_sums, split


def reward(apply, params, batch, key, *, given=None, train=True):
  """Returns -log sigmoid(chosen - rejected - margin) of the rewards of pairs.

  A reward is the one output of head="classes", of a decoder or an LSTM at the last
  token of an answer. margin_BP is by how much the chosen answer should win, 0 where
  nothing is known. The rows are described in sides.py. Sums over pairs: "loss",
  "accuracy" (the chosen answer has the higher reward), "margin" (by how much), and the
  mean reward of both sides.
  """
  features = read(apply, params, batch, key, train)
  rewards_BO = rewards(apply, params, features.x_BTD, batch)
  chosen_BP, rejected_BP = split(rewards_BO)
  d_BP = chosen_BP - rejected_BP
  sums = pair_sums(
    batch["weights_BP"],
    loss=-jax.nn.log_sigmoid(d_BP - batch["margin_BP"]),
    accuracy=d_BP > 0,
    margin=d_BP,
    chosen_reward=chosen_BP,
    rejected_reward=rejected_BP,
  )
  return add_auxiliary(sums, features.losses) if train else sums


def rewards(apply, params, x_BTD, batch):
  """Returns the reward of each segment, two a pair: rewards_BO."""
  num = 2 * batch["weights_BP"].shape[1]
  inputs = dict(segments_BT=batch["segments_BT"], num=num, method="classify")
  logits_BOC = apply({"params": params}, x_BTD, **inputs)
  return jnp.squeeze(logits_BOC, axis=-1)


def check(model) -> None:
  """Raises Mistake for a model whose head does not give one number."""
  if model.output != "classes" or model.config.task.classes != 1:
    raise Mistake(
      f"objective 'reward' needs a model with one output, and this one has "
      f"head={model.output!r}; wanted head='classes' with classes=1"
    )
