"""Objectives: label smoothing, sentence pairs, a class of the row."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_objectives import B, T, V, apply, assert_close, draw

from lm.errors import Mistake
from lm.models import Features
from lm.objectives.classify import classify
from lm.objectives.masked_lm import masked_lm
from lm.objectives.next_sentence import next_sentence
from lm.objectives.seq2seq import seq2seq


def test_smoothing_spreads_a_share_of_every_target():
  params, batch = draw()
  logits = np.tanh(params["embed"])[batch["tokens_BT"]] @ params["out"]
  wide = jnp.pad(logits, ((0, 0), (0, 0), (0, 5)), constant_values=-3.4e38)

  def padded(variables, x, *, method, **options):
    return wide if method == "readout" else Features(x)

  soft = optax.smooth_labels(jax.nn.one_hot(batch["targets_BT"], V), 0.1)
  expected = jnp.sum(optax.softmax_cross_entropy(logits, soft) * batch["weights_BT"])
  sums = seq2seq(padded, params, batch, None, smoothing=0.1)
  assert_close(sums["loss"][0], expected)
  plain = seq2seq(padded, params, batch, None, train=False, smoothing=0.1)
  assert plain["loss"] == sums["nats_per_token"]
  assert sums["loss"][0] > plain["loss"][0] + 0.5
  with pytest.raises(Mistake, match=r"smoothing=1; wanted 0 or more, less than 1"):
    seq2seq(padded, params, batch, None, smoothing=1)


def test_next_sentence_adds_its_mean_to_that_of_the_hidden_tokens():
  params, batch = draw()
  batch["weights_BT"] = np.broadcast_to(np.arange(T) % 4 == 0, (B, T)).astype("f4")
  batch["next_B"] = np.arange(B) % 2
  logits_BC = np.random.default_rng(1).normal(size=(B, 2)).astype("f4")

  def two_heads(variables, x, *, method, **options):
    return (
      logits_BC
      if method == "next_sentence"
      else apply(variables, x, method=method, **options)
    )

  sums = next_sentence(two_heads, params, batch, None, train=False)
  masked = masked_lm(two_heads, params, batch, None, train=False)
  log_p = jax.nn.log_softmax(logits_BC)
  expected = -np.mean(np.take_along_axis(log_p, batch["next_B"][:, None], 1))
  assert sums["loss"][1] == masked["loss"][1]
  assert_close(np.divide(*sums["loss"]), np.divide(*masked["loss"]) + expected)
  correct = np.argmax(logits_BC, 1) == batch["next_B"]
  assert sums["next_sentence_accuracy"] == (correct.sum(), B)


def test_a_class_of_the_row_is_cross_entropy_over_real_rows():
  params, batch = draw()
  del batch["targets_BT"], batch["weights_BT"]
  batch["label_B"] = np.arange(B) % 3
  batch["weights_B"] = (np.arange(B) < 5).astype("f4")
  logits_BC = np.random.default_rng(1).normal(size=(B, 3)).astype("f4")

  def classifier(variables, x, *, method, **options):
    if method == "classify":
      return logits_BC
    return apply(variables, x, method=method, **options)

  sums = classify(classifier, params, batch, None, train=False)
  log_p = jax.nn.log_softmax(logits_BC)[:5]
  nll = -np.take_along_axis(log_p, batch["label_B"][:5, None], 1).sum()
  assert_close(sums["loss"], (nll, 5.0))
  correct = np.argmax(logits_BC[:5], 1) == batch["label_B"][:5]
  assert sums["accuracy"] == (correct.sum(), 5)
