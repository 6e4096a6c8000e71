"""Preference losses and rewards: published values, loops over tokens, symmetries."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm import models
from lm.data.packed import EXAMPLE, Packed
from lm.errors import Mistake
from lm.letters import unbox
from lm.models import Features
from lm.objectives.dpo import LOSSES, SIDES, check, dpo, log_probabilities
from lm.objectives.reward import reward

SEQ = 48
DTYPES = {"tokens_T": "int32", "targets_T": "int32", "weights_T": "float32"}


def apply(variables, x, *, method, **_):
  """Model in which token t is followed by id 0 with the log-probability logp[t]."""
  if method == "features":
    return Features(variables["params"]["logp"][x][..., None])
  return jnp.concatenate([x, jnp.log1p(-jnp.exp(x))], axis=-1)


def batch_of(pairs, *, seq=SEQ, prompt=()):
  """Returns (params, batch): a pair is two lists of log-probabilities of tokens."""
  logps, examples = [], []
  for sides in pairs:
    parts = {key: [] for key in (*DTYPES, "segments_T")}
    for number, side in enumerate(sides, 1):
      values = [*prompt, *side]
      parts["tokens_T"] += range(len(logps), len(logps) + len(values))
      logps += values
      parts["targets_T"] += [0] * len(values)
      parts["weights_T"] += [0] * len(prompt) + [1] * len(side)
      parts["segments_T"] += [number] * len(values)
    examples.append(parts)
  dtypes = DTYPES | {EXAMPLE: "int32"}
  rows = Packed(examples, sizes={"T": seq}, dtypes=dtypes, pad=0, parts=2)
  stacked = [rows[i] for i in range(len(rows))]
  batch = {f"{n[:-1]}B{n[-1]}": np.stack([r[n] for r in stacked]) for n in stacked[0]}
  return {"logp": jnp.array(logps, jnp.float32)}, batch


def reference(chosen, rejected):
  values = dict(zip(SIDES, (np.float32(chosen), np.float32(rejected)), strict=True))
  return {"train": values, "heldout": values}


def means(params, batch, given=None, **options):
  sums = dpo(apply, params, batch, None, given=given, train=False, **options)
  return {name: float(total) / float(count) for name, (total, count) in sums.items()}


def test_the_published_values():
  """Those of trl 1.16 for the same numbers."""
  params, batch = batch_of([([-3] * 4, [-3] * 5)])
  given = reference([-13], [-14])
  values = means(params, batch, given, beta=0.1)
  assert values["loss"] == pytest.approx(0.598139, abs=1e-6)
  assert values["margin"] == pytest.approx(0.2, abs=1e-6)
  assert (values["chosen_tokens"], values["rejected_tokens"]) == (4, 5)
  assert values["chosen_logp"] == pytest.approx(-12, abs=1e-5)
  values = means(params, batch, given, beta=0.1, loss="ipo")
  assert values["loss"] == pytest.approx(20.7025, abs=1e-4)
  values = means(params, batch, loss="simpo", beta=2.0, gamma=1.0)
  assert values["loss"] == pytest.approx(1.313262, abs=1e-6)
  assert values["accuracy"] == 0  # equal means: the strict sense


def draw(num=20, seed=0):
  rng = np.random.default_rng(seed)
  sides = lambda: list(-rng.uniform(0.1, 4, rng.integers(1, 9)))
  pairs = [(sides(), sides()) for _ in range(num)]
  given = reference(-rng.uniform(1, 20, num), -rng.uniform(1, 20, num))
  return pairs, given


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_a_loop_over_tokens(loss):
  pairs, given = draw()
  beta, gamma, total, hits = 0.3, 0.7, 0.0, 0
  for number, (chosen, rejected) in enumerate(pairs):
    refs = [given["heldout"][side][number] for side in SIDES]
    d = (sum(chosen) - refs[0]) - (sum(rejected) - refs[1])
    if loss == "ipo":
      d = (sum(chosen) - refs[0]) / len(chosen) - (sum(rejected) - refs[1]) / len(
        rejected
      )
    if loss == "simpo":
      d = sum(chosen) / len(chosen) - sum(rejected) / len(rejected)
    total += {
      "sigmoid": math.log1p(math.exp(-beta * d)),
      "hinge": max(0, 1 - beta * d),
      "ipo": (d - 1 / (2 * beta)) ** 2,
      "simpo": math.log1p(math.exp(gamma - beta * d)),
    }[loss]
    hits += d > 0
  params, batch = batch_of(pairs, prompt=[-0.5, -2.0])
  values = means(params, batch, given, loss=loss, beta=beta, gamma=gamma)
  assert values["loss"] == pytest.approx(total / len(pairs), rel=1e-5)
  assert values["accuracy"] == pytest.approx(hits / len(pairs))


@pytest.mark.parametrize("loss", LOSSES)
def test_prompts_rows_and_padding_change_nothing(loss):
  pairs, given = draw()
  expected = means(*batch_of(pairs), given, loss=loss)
  for values in (
    means(*batch_of(pairs, prompt=[-9.0, -0.1, -3.0]), given, loss=loss),
    means(*batch_of(pairs, seq=3 * SEQ), given, loss=loss),
  ):
    assert values == pytest.approx(expected, rel=1e-5)


def test_swapped_sides_turn_the_sign_of_the_margin():
  pairs, given = draw()
  swapped = [sides[::-1] for sides in pairs]
  there = dict(zip(SIDES, map(given["heldout"].get, SIDES[::-1]), strict=True))
  first = means(*batch_of(pairs), given)
  second = means(*batch_of(swapped), {"heldout": there})
  assert second["margin"] == pytest.approx(-first["margin"], rel=1e-5)
  assert second["accuracy"] == pytest.approx(1 - first["accuracy"])


def test_means_do_not_depend_on_the_length_and_sums_do():
  pairs, given = draw(1)
  longer = [(pairs[0][0] * 2, pairs[0][1])]
  twice = {s: given["heldout"][s] * (2 if s == SIDES[0] else 1) for s in SIDES}
  for loss in LOSSES:
    first = means(*batch_of(pairs), given, loss=loss)["loss"]
    second = means(*batch_of(longer), {"heldout": twice}, loss=loss)["loss"]
    assert (first == pytest.approx(second, rel=1e-5)) == (loss in ("ipo", "simpo"))


def test_the_gradient_is_the_closed_form():
  pairs, given = draw()
  params, batch = batch_of(pairs)
  beta = 0.3

  def loss(params):
    return dpo(apply, params, batch, None, given=given, train=False, beta=beta)["loss"]

  grads = jax.grad(lambda params: loss(params)[0])(params)["logp"]
  place = 0
  for number, sides in enumerate(pairs):
    refs = [given["heldout"][side][number] for side in SIDES]
    d = (sum(sides[0]) - refs[0]) - (sum(sides[1]) - refs[1])
    slope = -beta / (1 + math.exp(beta * d))
    for sign, side in zip((1, -1), sides, strict=True):
      actual = grads[place : place + len(side)]
      np.testing.assert_allclose(actual, sign * slope, rtol=1e-4)
      place += len(side)


def test_a_row_without_pairs_adds_nothing_and_no_nan():
  params, batch = batch_of(draw(3)[0])
  empty = {key: np.zeros_like(x) for key, x in batch.items()}
  for loss in LOSSES:

    def total(params, loss=loss):
      sums = dpo(apply, params, empty, None, given=reference([0], [0]), loss=loss)
      return sums["loss"][0]

    value, grads = jax.value_and_grad(total)(params)
    assert value == 0 and not np.any(grads["logp"])


@pytest.mark.parametrize("family", ["decoder", "rnn"])
def test_packed_pairs_are_as_likely_as_alone(family):
  """A real model's log-probabilities, against log-softmax of each answer by itself."""
  sizes = dict(width=16, layers=2) | (dict(heads=2) if family == "decoder" else {})
  model = models.build(family, vocab=50, **sizes)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  rng, examples, expected = np.random.default_rng(0), [], []
  for _ in range(7):
    prompt = rng.integers(0, 50, rng.integers(1, 5))
    parts = {key: [] for key in (*DTYPES, "segments_T")}
    logps = []
    for number in (1, 2):
      ids = np.append(prompt, rng.integers(0, 50, rng.integers(1, 6)))
      parts["tokens_T"] += list(ids[:-1])
      parts["targets_T"] += list(ids[1:])
      weights = np.arange(1, len(ids)) >= len(prompt)
      parts["weights_T"] += list(weights.astype(float))
      parts["segments_T"] += [number] * (len(ids) - 1)
      logits_BTV, _ = model.apply({"params": params}, ids[None, :-1])
      logp_TV = np.asarray(jax.nn.log_softmax(logits_BTV[0]))
      logps.append(sum(logp_TV[t, ids[t + 1]] for t in np.flatnonzero(weights)))
    examples.append(parts)
    expected.append(logps)
  dtypes = DTYPES | {EXAMPLE: "int32"}
  rows = Packed(examples, sizes={"T": SEQ}, dtypes=dtypes, pad=0, parts=2)
  assert len(rows) < 7
  for index in range(len(rows)):
    batch = {f"{n[:-1]}B{n[-1]}": x[None] for n, x in rows[index].items()}
    inputs = dict(segments_BT=batch["segments_BT"], method="features")
    x_BTD = model.apply({"params": params}, batch["tokens_BT"], **inputs).x_BTD
    for pieces in (2**28, 4 * SEQ * 128 // 3):
      sides = log_probabilities(model.apply, params, x_BTD, batch, pieces)
      for place, number in enumerate(rows.members[index]):
        actual = [side_BP[0, place] for side_BP in sides]
        np.testing.assert_allclose(actual, expected[number], rtol=1e-4)


def test_a_reward_is_that_of_the_last_token_and_wins_by_a_margin():
  pairs, _ = draw(6)
  params, batch = batch_of(pairs)
  batch["margin_BP"] = np.where(batch["weights_BP"], 0.25, 7.0).astype("f4")

  def rewarding(variables, x, *, method, segments_BT=None, num=0, **_):
    if method == "features":
      return apply(variables, x, method=method)
    last = [
      [np.flatnonzero(row == k + 1)[-1:] for k in range(num)] for row in segments_BT
    ]
    values = [
      [x[b, k[0], 0] if len(k) else 5.0 for k in ks] for b, ks in enumerate(last)
    ]
    return jnp.array(values)[..., None]

  sums = reward(rewarding, params, batch, None, train=False)
  d = np.array([chosen[-1] - rejected[-1] for chosen, rejected in pairs])
  assert sums["loss"][0] == pytest.approx(np.log1p(np.exp(0.25 - d)).sum(), rel=1e-5)
  assert sums["accuracy"] == (np.sum(d > 0), len(d))
  assert sums["margin"][0] == pytest.approx(d.sum(), rel=1e-4)


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(family="encoder", heads=2), "and family 'encoder' gives an answer to a"),
    (dict(family="rnn", head="classes"), "and family 'rnn' gives an answer"),
    (dict(family="rnn", dropout=0.1), "dropout=0.1 makes the two differ; wanted"),
  ],
)
def test_a_model_that_cannot_learn_from_preferences_is_refused(fields, message):
  with pytest.raises(Mistake, match=message):
    check(models.build(vocab=50, width=16, layers=1, **fields))


def test_a_loss_that_does_not_exist():
  with pytest.raises(Mistake, match="no loss 'kto'; found: sigmoid, hinge, ipo, simpo"):
    means(*batch_of([([-1], [-1])]), loss="kto")
  with pytest.raises(Mistake, match=r"beta=0.0; wanted more than 0"):
    means(*batch_of([([-1], [-1])]), loss="simpo", beta=0.0)
