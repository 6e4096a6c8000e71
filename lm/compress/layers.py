"""Layers taken out: those whose output points where their input does.

Men et al. 2024, arXiv:2403.03853: the influence of a layer is 1 minus the mean cosine
of the residual stream before and behind it. The first layer stays. Training on heals:
start a run from the result.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lm import compress
from lm.compress import _structure
from lm.errors import Mistake
from lm.models import INPUTS

STACK = "blocks"
LAST = ("ff_residual_BTD", "mixer_residual_BTD")  # of a block, as `lm.nn` records it


@dataclasses.dataclass(frozen=True)
class Method(compress.Pruning):
  """`percent` of the layers."""

  reads_text = True

  def apply(self, subject):
    influence_L = influences(subject)
    count = len(influence_L)
    kept = count - count * self.percent // 100
    if kept == count:
      raise Mistake(f"{self.percent} % of {count} layers is none; wanted more")
    index_L = np.sort(np.argsort(-influence_L, kind="stable")[:kept])
    return _structure.taken(subject, {STACK: {"L": index_L}}, layers=kept)


def influences(subject):
  """Returns the influence of each layer; infinity for the first.

  Raises Mistake for a family whose layers are not one stack of the same kind.
  """
  model = subject.model

  @jax.jit
  def step(params, arrays):
    _, seen = model.apply({"params": params}, **arrays, mutable=["intermediates"])
    layer = seen["intermediates"].get(STACK, {}).get("layer", {})
    names = [name for name in LAST if name in layer]
    if not names:
      return None
    x_LBTD = jnp.asarray(layer[names[0]][0])
    before, behind = x_LBTD[:-1], x_LBTD[1:]
    lengths = [jnp.linalg.norm(x, axis=-1) for x in (before, behind)]
    cosine = jnp.sum(before * behind, axis=-1) / (lengths[0] * lengths[1])
    return jnp.mean(1 - cosine, axis=(1, 2))

  total = []
  for batch in subject.batches():
    arrays = {n: x for n, x in batch.items() if n == "tokens_BT" or n in INPUTS}
    total.append(step(subject.params, arrays))
  if total[0] is None or len({*map(str, _kinds(model))}) > 1:
    raise Mistake("this family has no single stack of layers of one kind")
  return np.concatenate([[np.inf], np.mean(total, axis=0)])


def _kinds(model) -> tuple:
  """Returns the fields by which the layers of a model differ."""
  return model.bind({}).blocks.kinds
