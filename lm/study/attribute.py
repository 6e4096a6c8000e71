"""Attributions: what a model's output owes to each token; and where it looked.

Gradient x input (arXiv:1605.01713) is the slope at the text itself. Integrated
gradients (Sundararajan, Taly and Yan 2017, arXiv:1703.01365) average it on the way from
a baseline, so that the tokens' shares add up to the change of the output; `gap` says by
how much they fail to. The input is the vectors of the tokens: positions and types of
tokens stay as they are.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lm.nn.layers import Embedding
from lm.platform import narrow

AT_ONCE = 32  # points of the path in a batch
MOST_STEPS = 512
CLOSE = 0.01  # of the change: a gap at which no more steps are taken


class Attribution(NamedTuple):
  """The share of each token in an output, and how complete they are."""

  share_T: np.ndarray  # above 0: the token raises the output
  output: float  # of the text
  baseline: float  # of the baseline
  steps: int  # points of the path

  @property
  def gap(self) -> float:
    """The part of the change that no share explains; 0 for an exact integral."""
    return self.output - self.baseline - float(np.sum(self.share_T))


def class_logits(model, params, ids, number: int, x_BTD) -> tuple:
  """Returns (logit_B, its gradient_BTD) of a class for vectors x_BTD of a text's ids.

  `x_BTD` stand for what the embedding gives; a text may be followed by padding, which
  has id -1.
  """
  return _gradients(model)(params, np.asarray(ids, np.int32), x_BTD, number)


@narrow
def gradient_x_input(model, params, ids, number: int) -> np.ndarray:
  """Returns share_T: the gradient of a class's logit times the vector of each token."""
  x_1TD = vectors(model, params, ids)[None]
  _, gradient_1TD = class_logits(model, params, ids, number, x_1TD)
  return np.asarray(np.sum(gradient_1TD[0] * x_1TD[0], axis=-1))


@narrow
def integrated_gradients(
  model, params, ids, number: int, *, baseline_D=None, steps: int = 0
) -> Attribution:
  """Returns the Attribution of a class's logit to the tokens of a text.

  The baseline has `baseline_D` in place of every token's vector, by default the mean of
  the vocabulary: a vector of zeros is none that a norm could read. The integral is
  Gauss and Legendre's, with `steps` points, a multiple of AT_ONCE; 0 doubles them until
  the gap is 1 % of the change, or MOST_STEPS.
  """
  x_TD = vectors(model, params, ids)
  if baseline_D is None:
    baseline_D = np.mean(_table(model, params)[: model.config.vocab], axis=0)
  start_TD = np.broadcast_to(np.asarray(baseline_D, np.float32), x_TD.shape)
  ends_BTD = np.zeros((AT_ONCE, *x_TD.shape), np.float32)
  ends_BTD[0], ends_BTD[1] = x_TD, start_TD
  logit_B, _ = class_logits(model, params, ids, number, ends_BTD)
  output, baseline = map(float, logit_B[:2])
  count = steps or AT_ONCE
  while True:
    mean_TD = _mean_gradient(model, params, ids, number, (start_TD, x_TD, count))
    share_T = np.sum(mean_TD * (x_TD - start_TD), axis=-1)
    result = Attribution(share_T, output, baseline, count)
    is_close = abs(result.gap) <= CLOSE * abs(output - baseline)
    if steps or is_close or count >= MOST_STEPS:
      return result
    count *= 2


def _mean_gradient(model, params, ids, number, path):
  """Returns the mean gradient_TD on the straight path (start, end, points)."""
  start_TD, end_TD, count = path
  places, weights = np.polynomial.legendre.leggauss(count)
  total_TD = np.zeros(end_TD.shape)
  for first in range(0, count, AT_ONCE):
    place_B11 = (places[first : first + AT_ONCE, None, None] + 1) / 2
    x_BTD = start_TD[None] + place_B11 * (end_TD - start_TD)[None]
    _, gradient_BTD = class_logits(model, params, ids, number, x_BTD.astype("f4"))
    weight_B = weights[first : first + AT_ONCE] / 2
    total_TD += np.tensordot(weight_B, np.asarray(gradient_BTD, float), 1)
  return total_TD


def vectors(model, params, ids) -> np.ndarray:
  """Returns the vectors x_TD that the embedding has for ids; zeros for padding."""
  ids_T = np.asarray(ids)
  x_TD = np.asarray(_table(model, params)[np.maximum(ids_T, 0)], np.float32)
  return np.where(ids_T[:, None] >= 0, x_TD, 0)


def _table(model, params) -> np.ndarray:
  return np.asarray(model.word_vectors(params), np.float32)


@functools.cache
def _gradients(model):
  """Returns the jitted function of `class_logits`."""

  def logits(x_BTD, params, ids_T, number):
    shape = x_BTD.shape[:2]
    segments_BT = jnp.broadcast_to((ids_T >= 0).astype(jnp.int32), shape)
    tokens_BT = jnp.broadcast_to(jnp.maximum(ids_T, 0), shape)
    variables = {"params": params}
    with nn.intercept_methods(_instead_of_embedding(x_BTD)):
      inputs = dict(segments_BT=segments_BT, method="features")
      features = model.apply(variables, tokens_BT, **inputs)
    inputs = dict(num=1, method="classify")
    logits_BPC = model.apply(variables, features.x_BTD, segments_BT, **inputs)
    logit_B = logits_BPC[:, 0, number]
    return jnp.sum(logit_B), logit_B

  def gradients(params, ids_T, x_BTD, number):
    gradient_BTD, logit_B = jax.grad(logits, has_aux=True)(x_BTD, params, ids_T, number)
    return logit_B, gradient_BTD

  return jax.jit(gradients)


def _instead_of_embedding(x_BTD):
  """Returns an interceptor of flax by which the table of tokens gives these vectors."""

  def given(call, args, kwargs, context):
    is_tokens = type(context.module) is Embedding and context.module.name == "embed"
    if is_tokens and context.method_name == "__call__":
      return x_BTD
    return call(*args, **kwargs)

  return given


@narrow
def attention(model, params, ids):
  """Returns probs_LNTS, what each token looked at in a text; None without attention."""
  variables, tokens_1T = {"params": params}, np.asarray(ids, np.int32)[None]

  @jax.jit
  def recorded(variables):
    options = dict(mutable=["intermediates"], method="features")
    return model.apply(variables, tokens_1T, **options)[1].get("intermediates", {})

  layer = recorded(variables).get("blocks", {}).get("layer", {})
  if "attention" not in layer:
    return None
  [probs_LBNTS] = layer["attention"]["probs_BNTS"]
  return np.asarray(probs_LBNTS, np.float32)[:, 0]


@narrow
def token_nats(model, params, ids) -> np.ndarray:
  """Returns nats_T, the loss of each of a text's ids but the first, given those before.

  `ids` begin with what begins a document, and fit the model's context.
  """

  @jax.jit
  def nats(params, ids_1T):
    logits_1TV, _ = model.apply({"params": params}, ids_1T[:, :-1])
    logprob_1TV = jax.nn.log_softmax(logits_1TV)
    return -jnp.take_along_axis(logprob_1TV, ids_1T[:, 1:, None], axis=-1)[0, :, 0]

  return np.asarray(nats(params, np.asarray(ids, np.int32)[None]))
