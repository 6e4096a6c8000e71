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

N, K, R = 24, 64, 200


@functools.cache
def drawn():
  """Returns (w_NK, x_RK) with inputs of different sizes that depend on each other."""
  draw = np.random.default_rng(0)
  x_RK = draw.standard_normal((R, 8)) @ draw.standard_normal((8, K))
  x_RK = (x_RK + draw.standard_normal((R, K))) * np.exp(draw.standard_normal(K))
  w_NK = draw.standard_normal((N, K))
  return w_NK.astype(np.float32), x_RK.astype(np.float32)


def error(w, w_NK, x_RK) -> float:
  """Returns the squared error of the outputs."""
  return float(np.sum((x_RK @ (np.asarray(w, np.float64) - w_NK).T) ** 2))


PLACE = Place.of("VD", "D", (N, K))


def plain_gptq(w_NK, gram_KK):
  """Returns the numbers of GPTQ by its equations 2 and 3, an inverse for each step.

  The inverse of the Hessian without the inputs that were rounded comes from the whole
  one by an elimination, as in the paper's section 3.1.
  """
  w_NK, K = w_NK.astype(np.float64), len(gram_KK)
  damped_KK = gram_KK + 0.01 * np.mean(np.diag(gram_KK)) * np.eye(K)
  inverse_KK = np.linalg.inv(damped_KK)
  result, scale_N = np.zeros_like(w_NK), None
  for k in range(K):
    if k % 32 == 0:
      block = w_NK[:, k : k + 32]
      largest = np.take_along_axis(block, np.abs(block).argmax(1)[:, None], 1)[:, 0]
      scale_N = (largest / -8).astype(np.float16).astype(np.float64)
    result[:, k] = np.clip(np.round(w_NK[:, k] / scale_N), -8, 7) * scale_N
    change_N = (w_NK[:, k] - result[:, k]) / inverse_KK[k, k]
    w_NK -= np.outer(change_N, inverse_KK[k])
    inverse_KK = (
      inverse_KK - np.outer(inverse_KK[:, k], inverse_KK[k]) / inverse_KK[k, k]
    )
  return result


def test_gptq_is_its_equations_and_better_than_rounding():
  w_NK, x_RK = drawn()
  gram_KK = x_RK.astype(np.float64).T @ x_RK
  w = gptq.matrix(w_NK, PLACE, gram_KK)
  np.testing.assert_allclose(w.dense(), plain_gptq(w_NK, gram_KK), atol=1e-5)
  rounded = int4.Matrix.of(w_NK, PLACE)
  assert error(w, w_NK, x_RK) < 0.5 * error(rounded, w_NK, x_RK)
  # Without inputs that depend on each other there is nothing to take off.
  alone = gptq.matrix(w_NK, PLACE, np.eye(K) * 5)
  assert error(alone, w_NK, x_RK) <= 1.05 * error(rounded, w_NK, x_RK)


def test_gptq_of_a_stack_whose_columns_groups_do_not_divide():
  w_NK, x_RK = drawn()
  gram_KK = (x_RK.astype(np.float64).T @ x_RK)[:40, :40]
  array = np.stack([w_NK[:, :40].T, w_NK[::-1, :40].T]).reshape(2, 5, 8, 4, 6)
  place = Place.of("LNHDF", "NH", array.shape)
  w = gptq.matrix(array, place, np.stack([gram_KK, gram_KK]))
  single = gptq.matrix(w_NK[:, :40], Place.of("VD", "D", (N, 40)), gram_KK)
  own = np.asarray(w)[0].reshape(40, N).T
  np.testing.assert_array_equal(own, single.dense())


def test_awq_is_better_than_rounding():
  w_NK, x_RK = drawn()
  sizes_K, gram_KK = np.abs(x_RK).mean(0), x_RK.T @ x_RK
  w = awq.matrix(w_NK, PLACE, sizes_K, gram_KK)
  rounded = int4.Matrix.of(w_NK, PLACE)
  assert error(w, w_NK, x_RK) < 0.9 * error(rounded, w_NK, x_RK)
  errors = []
  for alpha in np.arange(20) / 20:
    scale_K = sizes_K**alpha
    scale_K = scale_K / np.sqrt(scale_K.max() * scale_K.min())
    narrow = np.asarray(int4.Matrix.of(w_NK * scale_K, PLACE)) / scale_K
    errors.append(error(narrow, w_NK, x_RK))
  assert error(w, w_NK, x_RK) == pytest.approx(min(errors), rel=0.01)


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
  for l, x_RK in enumerate(expected):  # the batch is there twice
    np.testing.assert_allclose(gram[l], 2 * x_RK.T @ x_RK, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(squares[l], 2 * (x_RK**2).sum(0), rtol=1e-4)
    np.testing.assert_allclose(sizes[l], 2 * np.abs(x_RK).sum(0), rtol=1e-4)


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
  for w_K, pruned_K in zip(w_LK, pruned_LK, strict=True):
    gone_K = np.argsort(np.argsort(np.abs(w_K))) < len(w_K) * 30 // 100
    np.testing.assert_array_equal(pruned_K, np.where(gone_K, 0, w_K))
