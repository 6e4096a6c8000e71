"""Vectors of texts: the same alone and in a batch; long texts are cut."""

import numpy as np
import pytest
from families import FAMILIES

from lm.data import tokenizers
from lm.generate.embed import embed


class Numbers:
  """Tokenizer of digits that puts every text between the ids 10 and 11."""

  embedding: dict = {}  # noqa: RUF012 - never changed

  def prompt(self, text):
    return np.array([10, *map(int, text), 11], np.int32)


def test_a_vector_is_a_texts_own():
  family = FAMILIES["bert"]
  model, params = family.model(), family.params()
  texts = ["123", "4567890", "", "9", "1234567890123456789"]
  together_RD = embed(model, params, Numbers(), texts, batch_size=3)
  assert together_RD.shape == (5, model.config.width)
  np.testing.assert_allclose(np.linalg.norm(together_RD, axis=1), 1, rtol=1e-5)
  alone_1D = embed(model, params, Numbers(), texts[1:2])
  np.testing.assert_allclose(together_RD[1:2], alone_1D, atol=1e-5)
  cut_1D = embed(model, params, Numbers(), [texts[4][: model.config.context - 2]])
  np.testing.assert_allclose(together_RD[4:], cut_1D, atol=1e-5)
  first_1D = embed(model, params, Numbers(), texts[1:2], pooling="first")
  assert np.abs(first_1D - alone_1D).max() > 0.01


@pytest.mark.parametrize(
  "texts, options, message",
  [
    ([], {}, "wanted a list of texts"),
    ("text", {}, "wanted a list of texts"),
    (["text"], dict(pooling="last"), "no pooling 'last'; found: mean, first"),
  ],
)
def test_mistakes_are_one_line(texts, options, message):
  with pytest.raises(ValueError, match=message):
    embed(None, None, tokenizers.byte_tokenizer(), texts, **options)
