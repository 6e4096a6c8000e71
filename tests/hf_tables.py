"""Weights of a transformers model as parameters of ours, by a table.

A row is (ours, theirs, reshape). "{}" in theirs is a layer's number; such weights of
ours are stacked. "" in theirs means that they have no such weight: ours is zeros then.
"""

import jax
import numpy as np

from lm import dims


def same(x, shape):
  return x.reshape(shape)


def turned(x, shape):
  """Theirs is (out, in)."""
  return x.T.reshape(shape)


def rows(x, shape):
  """A table or vector over a vocabulary, which we pad."""
  return np.pad(x, [(0, shape[0] - x.shape[0])] + [(0, 0)] * (x.ndim - 1))


def columns(x, shape):
  return rows(x, shape[::-1]).T


def copied(model, table, theirs, spare=()) -> dict:
  """The parameters of `model`; ValueError for a weight of theirs that no row names.

  `spare` are the names of weights that say nothing new.
  """
  shapes, _ = dims.abstract(model, np.zeros((1, 2), np.int32))
  state = {name: x.detach().numpy() for name, x in theirs.state_dict().items()}
  known = {ours: (name, reshape) for ours, name, reshape in table}
  used = set(spare)

  def weight(name, reshape, shape):
    used.add(name)
    return reshape(state[name], shape) if name else np.zeros(shape, np.float32)

  def one(path, leaf):
    name, reshape = known[dims.path_name(path)]
    if "{}" not in name:
      return weight(name, reshape, leaf.shape)
    L, *shape = leaf.shape
    return np.stack([weight(name.format(l), reshape, shape) for l in range(L)])

  params = jax.tree_util.tree_map_with_path(one, shapes)
  if left := set(state) - used:
    raise ValueError(f"weights without a row in the table: {', '.join(sorted(left))}")
  return params


def noisy(theirs, seed=0):
  """The same model, with noise on its weights: zeros and ones would hide mistakes."""
  import torch

  torch.manual_seed(seed)
  with torch.no_grad():
    for weight in theirs.parameters():
      weight += 0.2 * torch.randn_like(weight)
  return theirs.eval()
