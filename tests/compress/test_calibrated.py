"""Methods that read texts: statistics, Wanda, GPTQ and AWQ against their equations."""

import functools

import jax
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import compress, trees
from lm.compress import _statistics, awq, gptq, wanda
from lm.nn import linear
from lm.nn.quantised import Place, int4

F, D, R = 24, 64, 200


@functools.cache
def drawn():
  """Returns (w_FD, x_RD) with inputs of different sizes that depend on each other."""
  draw = np.random.default_rng(0)
  x_RD = draw.standard_normal((R, 8)) @ draw.standard_normal((8, D))
  x_RD = (x_RD + draw.standard_normal((R, D))) * np.exp(draw.standard_normal(D))
  w_FD = draw.standard_normal((F, D))
  return w_FD.astype(np.float32), x_RD.astype(np.float32)


def error(w, w_FD, x_RD) -> float:
  """Returns the squared error of the outputs."""
  return float(np.sum((x_RD @ (np.asarray(w, np.float64) - w_FD).T) ** 2))


PLACE = Place.of("VD", "D", (F, D))


def plain_gptq(w_FD, gram_DD):
  """Returns the numbers of GPTQ by its equations 2 and 3, an inverse for each step.

  The inverse of the Hessian without the inputs that were rounded comes from the whole
  one by an elimination, as in the paper's section 3.1.
  """
  w_FD, D = w_FD.astype(np.float64), len(gram_DD)
  damped_DD = gram_DD + 0.01 * np.mean(np.diag(gram_DD)) * np.eye(D)
  inverse_DD = np.linalg.inv(damped_DD)
  result, scale_F = np.zeros_like(w_FD), None
  for k in range(D):
    if k % 32 == 0:
      block = w_FD[:, k : k + 32]
      largest = np.take_along_axis(block, np.abs(block).argmax(1)[:, None], 1)[:, 0]
      scale_F = (largest / -8).astype(np.float16).astype(np.float64)
    result[:, k] = np.clip(np.round(w_FD[:, k] / scale_F), -8, 7) * scale_F
    change_F = (w_FD[:, k] - result[:, k]) / inverse_DD[k, k]
    w_FD -= np.outer(change_F, inverse_DD[k])
    inverse_DD = (
      inverse_DD - np.outer(inverse_DD[:, k], inverse_DD[k]) / inverse_DD[k, k]
    )
  return result


def test_gptq_is_its_equations_and_better_than_rounding():
  w_FD, x_RD = drawn()
  gram_DD = x_RD.astype(np.float64).T @ x_RD
  w = gptq.matrix(w_FD, PLACE, gram_DD)
  np.testing.assert_allclose(w.dense(), plain_gptq(w_FD, gram_DD), atol=1e-5)
  rounded = int4.Matrix.of(w_FD, PLACE)
  assert error(w, w_FD, x_RD) < 0.5 * error(rounded, w_FD, x_RD)
  # Without inputs that depend on each other there is nothing to take off.
  alone = gptq.matrix(w_FD, PLACE, np.eye(D) * 5)
  assert error(alone, w_FD, x_RD) <= 1.05 * error(rounded, w_FD, x_RD)


def test_gptq_of_a_stack_whose_columns_groups_do_not_divide():
  w_FD, x_RD = drawn()
  gram_DD = (x_RD.astype(np.float64).T @ x_RD)[:40, :40]
  array = np.stack([w_FD[:, :40].T, w_FD[::-1, :40].T]).reshape(2, 5, 8, 4, 6)
  place = Place.of("LNHDF", "NH", array.shape)
  w = gptq.matrix(array, place, np.stack([gram_DD, gram_DD]))
  single = gptq.matrix(w_FD[:, :40], Place.of("VD", "D", (F, 40)), gram_DD)
  own = np.asarray(w)[0].reshape(40, F).T
  np.testing.assert_array_equal(own, single.dense())


def test_awq_is_better_than_rounding():
  w_FD, x_RD = drawn()
  sizes_D, gram_DD = np.abs(x_RD).mean(0), x_RD.T @ x_RD
  w = awq.matrix(w_FD, PLACE, sizes_D, gram_DD)
  rounded = int4.Matrix.of(w_FD, PLACE)
  assert error(w, w_FD, x_RD) < 0.9 * error(rounded, w_FD, x_RD)
  errors = []
  for alpha in np.arange(20) / 20:
    scale_D = sizes_D**alpha
    scale_D = scale_D / np.sqrt(scale_D.max() * scale_D.min())
    narrow = np.asarray(int4.Matrix.of(w_FD * scale_D, PLACE)) / scale_D
    errors.append(error(narrow, w_FD, x_RD))
  assert error(w, w_FD, x_RD) == pytest.approx(min(errors), rel=0.01)


def subject(name, **fields):
  family = FAMILIES[name]
  batch = {"tokens_BT": tokens(2, 8)} | family.inputs(2)
  return compress.Subject(
    family.model(**fields), family.params(), lambda: [batch, batch]
  )


def inputs_of(own, path):
  """Returns the x of the products with a matrix, unrolled, layer by layer."""
  seen = []

  class Spy(linear.Weight):
    shape = property(lambda self: self.value.shape)

    def __init__(self, value):
      self.value = value

    def dot(self, equation, x, dtype):
      seen.append(np.asarray(x, np.float64))
      return linear.dot(equation, x, self.value, dtype)

  leaves = dict(own.leaves)
  leaves[path] = tuple(map(Spy, leaves[path]))
  model = FAMILIES["llama"].model(scan=False)
  model.apply({"params": trees.nested(leaves)}, tokens(2, 8))
  return seen


@pytest.mark.parametrize("path", ["blocks/layer/attention/o", "blocks/layer/ff/down"])
def test_statistics_are_those_of_the_inputs(path):
  own = subject("llama")
  expected = [x.reshape(16, -1) for x in inputs_of(own, path)]
  assert len(expected) == 2
  gram, squares, sizes = (
    _statistics.collect(own, kind)[path] for kind in ("gram", "squares", "sizes")
  )
  for l, x_RD in enumerate(expected):  # the batch is there twice
    np.testing.assert_allclose(gram[l], 2 * x_RD.T @ x_RD, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(squares[l], 2 * (x_RD**2).sum(0), rtol=1e-4)
    np.testing.assert_allclose(sizes[l], 2 * np.abs(x_RD).sum(0), rtol=1e-4)


def test_statistics_in_several_passes_are_the_same(monkeypatch):
  own = subject("lstm")
  whole = _statistics.collect(own, "gram")
  assert whole
  monkeypatch.setattr(_statistics, "AT_ONCE", 1)
  parts = _statistics.collect(own, "gram")
  jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_wanda_is_its_equation():
  own = subject("llama")
  _, params = wanda.Method(percent=50).apply(own)
  path = "blocks/layer/ff/down"
  w_LFD = np.asarray(own.leaves[path])
  pruned_LFD = np.asarray(trees.by_path(params)[path])
  for l, x_BTF in enumerate(inputs_of(own, path)):
    norm_F1 = np.sqrt((x_BTF**2).sum((0, 1)))[:, None]
    scores_FD = np.abs(w_LFD[l]) * norm_F1
    gone_FD = np.argsort(np.argsort(scores_FD, axis=0), axis=0) < len(scores_FD) // 2
    np.testing.assert_array_equal(pruned_LFD[l] == 0, gone_FD)
    np.testing.assert_array_equal(pruned_LFD[l][~gone_FD], w_LFD[l][~gone_FD])


@pytest.mark.parametrize("name", ["t5", "mamba2", "moe"])
def test_every_kind_of_model_is_calibrated(name):
  _, params = compress.make("wanda_nm").apply(subject(name))
  leaves = trees.by_path(params, is_leaf=linear.is_weight)
  own = subject(name)
  for path in own.places:
    assert np.mean(np.asarray(leaves[path]) == 0) >= 0.5


def test_magnitude_removes_the_smallest_of_each_matrix():
  own = subject("gpt2")
  _, params = compress.make("magnitude-30").apply(own)
  path = "blocks/layer/attention/q"
  w_LK, pruned_LK = (
    np.asarray(x).reshape(2, -1)
    for x in (own.leaves[path], trees.by_path(params)[path])
  )
  for w_D, pruned_D in zip(w_LK, pruned_LK, strict=True):
    gone_D = np.argsort(np.argsort(np.abs(w_D))) < len(w_D) * 30 // 100
    np.testing.assert_array_equal(pruned_D, np.where(gone_D, 0, w_D))
