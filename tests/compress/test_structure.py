"""Structured pruning: what is taken out had no part, or the least."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import compress, trees


def logits(model, params, inputs):
  return jax.jit(lambda p: model.apply({"params": p}, tokens(2, 8), **inputs)[0])(
    params
  )


def subject(name, silent):
  """Returns a Subject of which silent(path, array) zeroes a part of the parameters."""
  family = FAMILIES[name]
  batch = {"tokens_BT": tokens(2, 8)} | family.inputs(2)
  leaves = trees.by_path(family.params())
  params = trees.nested({path: silent(path, x) for path, x in leaves.items()})
  return compress.Subject(family.model(), params, lambda: [batch])


def without(end, axis, *index):
  """Returns silent(path, array): zeroes entries along an axis, others by layer."""

  def silent(path, array):
    if not path.endswith(end):
      return array
    array = np.array(array)
    for l in range(len(array)):
      where = [l, *[slice(None)] * (array.ndim - 1)]
      where[axis] = np.array(index[l % len(index)])
      array[tuple(where)] = 0
    return jnp.asarray(array)

  return silent


@pytest.mark.parametrize(
  "name, method, silent, fields",
  [
    ("gpt2", "channels-25", without("ff/down", 1, range(32), range(40, 72)), ["ff"]),
    ("gemma", "channels-10", without("ff/down", 1, [0, 3, 5, 9]), ["ff"]),
    ("llama", "heads-50", without("attention/o", 1, [0, 1], [2, 3]), ["heads"]),
    ("bert", "heads-25", without("attention/o", 1, [2], [0]), ["heads"]),
  ],
)
def test_what_has_no_part_is_taken_out_and_nothing_changes(
  name, method, silent, fields
):
  own = subject(name, silent)
  model, params = compress.make(method).apply(own)
  assert compress.num_bytes(params) < compress.num_bytes(own.params)
  for field in fields:
    shown = FAMILIES[name].model().config
    assert str(model.config) != str(shown) and field in str(model.config)
  inputs = FAMILIES[name].inputs(2)
  expected = logits(own.model, own.params, inputs)
  np.testing.assert_allclose(logits(model, params, inputs), expected, 0, 2e-5)


def test_a_layer_that_changes_nothing_is_taken_out():
  def silent(path, array):
    is_last = path.endswith(("attention/o", "ff/down"))
    return jnp.asarray(array).at[1].set(0) if is_last else array

  own = subject("llama", silent)
  model, params = compress.make("layers-50").apply(own)
  assert model.config.layers == 1
  expected = logits(own.model, own.params, {})
  np.testing.assert_allclose(logits(model, params, {}), expected, 0, 2e-5)


@pytest.mark.parametrize(
  "name, method, message",
  [
    ("gemma", "layers-50", "no single stack of layers of one kind"),
    ("lstm", "heads-50", "family 'rnn' has no matrices NHD that this would prune"),
    ("moe", "channels-50", "has no matrices FD that this would prune"),
    ("llama", "heads-10", "10 % of 2 groups of heads is none; wanted 50 % or more"),
    ("t5", "heads-50", "this family is not pruned so"),
  ],
)
def test_what_is_not_pruned_so_is_one_line(name, method, message):
  with pytest.raises(ValueError) as error:
    compress.make(method).apply(subject(name, lambda path, array: array))
  assert message in str(error.value) and "\n" not in str(error.value)
