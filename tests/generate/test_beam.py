"""Beam search: equal to exhaustive search over a small vocabulary."""

import itertools

import fakes
import numpy as np
import pytest
from families import FAMILIES

from lm.generate import beam, decode

V, STOP = 4, 0
MODEL = fakes.small(vocab=V)
PARAMS = MODEL.init(seed=3, scale=0.1)
PENALTIES = (0.0, 1.0, 2.0, -0.5)


def all_continuations(prompt, T, penalty):
  """Returns [(ids, score)] of all continuations, best first."""
  score_of_ids = {}
  for ids in itertools.product(range(V), repeat=T):
    end = ids.index(STOP) + 1 if STOP in ids else T
    score_of_ids[ids[:end]] = total(prompt, ids[:end]) / end**penalty
  return sorted(score_of_ids.items(), key=lambda item: -item[1])


def total(prompt, ids):
  tokens_BT = np.array([[*prompt, *ids]])
  logits_BTV, *_ = MODEL.apply({"params": PARAMS}, tokens_BT, method="features")
  logits_TV = np.asarray(logits_BTV[0, len(prompt) - 1 : -1], np.float64)
  logits_TV -= np.log(np.exp(logits_TV).sum(axis=1, keepdims=True))
  return np.take_along_axis(logits_TV, np.array(ids)[:, None], axis=1).sum()


@pytest.mark.parametrize("penalty", PENALTIES)
def test_with_beams_enough_it_is_brute_force(penalty):
  prompts = [[1], [2, 3, 1], [3, 3]]
  result = beam.generate(
    MODEL, PARAMS, prompts, max_tokens=3, beams=64, length_penalty=penalty, stops=[STOP]
  )
  for row, prompt in enumerate(prompts):
    expected = all_continuations(prompt, 3, penalty)[:10]
    for w, (_, score) in enumerate(expected):
      assert result.scores_BZ[row, w] == pytest.approx(score, abs=1e-4)
      if w == 0 or abs(score - expected[w - 1][1]) > 1e-3:
        tied = [i for i, s in expected if abs(s - score) < 1e-3]
        actual = tuple(result.ids_BZT[row, w, : result.lengths_BZ[row, w]])
        assert actual in tied
        assert result.stopped_BZ[row, w] == (actual[-1] == STOP)


def test_one_beam_is_greedy():
  model, params = FAMILIES["gpt2"].model(), FAMILIES["gpt2"].params()
  prompts = [[3, 1, 4], [1, 5]]
  actual = beam.generate(model, params, prompts, max_tokens=8, beams=1)
  expected = decode.generate(model, params, prompts, max_tokens=8)
  np.testing.assert_array_equal(actual.ids_BZT[:, 0, :8], expected.ids_BT[:, :8])


def test_a_prompt_alone_is_the_prompt_in_a_batch():
  model, params = FAMILIES["llama"].model(), FAMILIES["llama"].params()
  options = dict(max_tokens=8, beams=3, stops=[7, 9])
  prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5], [35, 8]]
  together = beam.generate(model, params, prompts, **options)
  for row, prompt in enumerate(prompts):
    alone = beam.generate(model, params, [prompt], **options)
    np.testing.assert_array_equal(alone.ids_BZT[0], together.ids_BZT[row])
    np.testing.assert_allclose(alone.scores_BZ[0], together.scores_BZ[row], atol=1e-5)


def test_mistakes_are_one_line():
  with pytest.raises(ValueError, match="beams must be 1 or more, got 0"):
    beam.generate(MODEL, PARAMS, [[1]], max_tokens=2, beams=0)
  with pytest.raises(ValueError, match="nothing: the model's logits are not finite"):
    nan_params = {"table_VV": PARAMS["table_VV"] * np.nan}
    beam.generate(MODEL, nan_params, [[1]], max_tokens=2, beams=2)
