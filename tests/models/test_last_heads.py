"""Classes of texts: packed rows have the logits of each text by itself."""

import jax
import numpy as np
import pytest

from lm import letters, models

FAMILIES = {
  "encoder": dict(family="encoder", heads=2, context=32, pooler=True),
  "RoBERTa": dict(family="encoder", heads=2, context=32, hidden="tanh"),
  "decoder": dict(family="decoder", heads=2, context=32),
  "GPT-2": dict(family="decoder", preset="gpt2-tiny", heads=2, context=32),
  "rnn": dict(family="rnn"),
}
TEXTS = [[5, 6, 7], [8], [9, 3, 4, 11, 12, 1], [2, 2]]


def build(name):
  fields = FAMILIES[name] | dict(vocab=19, width=16, layers=2)
  model = models.build(**fields, head="classes", classes=3)
  tokens_BT = np.zeros((1, 4), np.int32)
  params = letters.unbox(jax.jit(model.init)(jax.random.key(0), tokens_BT)["params"])
  return model, params


def classify(model, params, tokens_BT, segments_BT=None, num=0):
  variables = {"params": params}
  x_BTD = model.apply(
    variables, tokens_BT, segments_BT=segments_BT, method="features"
  ).x_BTD
  options = dict(segments_BT=segments_BT, num=num, method="classify")
  return np.asarray(model.apply(variables, x_BTD, **options))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_packed_texts_are_those_of_each_alone(name):
  model, params = build(name)
  tokens_BT = np.array([[i for ids in TEXTS for i in ids] + [17, 17]])
  segments_BT = np.array([[p for p, ids in enumerate(TEXTS, 1) for _ in ids] + [0, 0]])
  packed_PC = classify(model, params, tokens_BT, segments_BT, num=6)[0]
  for place, ids in enumerate(TEXTS):
    alone_BC = classify(model, params, np.array([ids]))
    np.testing.assert_allclose(packed_PC[place], alone_BC[0], atol=2e-5)
    padded = np.array([[*ids, 17, 17]]), np.array([[1] * len(ids) + [0, 0]])
    np.testing.assert_allclose(classify(model, params, *padded), alone_BC, atol=2e-5)
    logits_BC, _ = model.apply({"params": params}, np.array([ids]))
    np.testing.assert_array_equal(logits_BC, alone_BC)


@pytest.mark.parametrize("name", ["decoder", "rnn"])
def test_a_classifier_writes_no_text_and_a_language_model_has_no_classes(name):
  model, params = build(name)
  x_BTD = np.zeros((1, 2, 16), np.float32)
  with pytest.raises(ValueError, match="has head='classes'; wanted one with head='tok"):
    model.apply({"params": params}, x_BTD, method="readout")
  writer = models.build(**FAMILIES[name], vocab=19, width=16, layers=2)
  params = writer.init(jax.random.key(0), np.zeros((1, 2), np.int32))
  with pytest.raises(ValueError, match="has head='tokens'; wanted one with head='cla"):
    writer.apply(params, x_BTD, method="classify")
  assert set(build(name)[1]) & {"head", "classifier"} == {"classifier"}
