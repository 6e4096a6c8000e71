"""Word vectors: losses and gradients equal torch's, windows hold the right pairs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from suffixes import checked

import lm
from lm import lookup, models
from lm.errors import Mistake
from lm.letters import abstract, batch_shardings, make_mesh, shardings
from lm.objectives import windows
from lm.objectives.glove import glove
from lm.objectives.skip_gram import skip_gram
from lm.objectives.windows import Words

V, D, B, T = 61, 8, 2, 70  # rows of three blocks, the last of them not full


def draw():
  """Returns (batch, counts_V, random params); id 0 is no word."""
  random = np.random.default_rng(0)
  tokens_BT = random.integers(0, V, (B, T)).astype(np.int32)
  weights_BT = np.ones((B, T), np.float32)
  weights_BT[1, 60:] = 0
  segments_BT = np.where(np.arange(T)[None] < [[30], [70]], 1, 2).astype(np.int32)
  batch = {"tokens_BT": tokens_BT, "weights_BT": weights_BT}
  batch |= {"targets_BT": tokens_BT, "segments_BT": segments_BT}
  counts_V = random.integers(1, 500, V)
  counts_V[0] = 0
  table = lambda: random.standard_normal((128, D)).astype(np.float32)
  params = {name: {"table": table()} for name in ("embed", "around")}
  return batch, counts_V, params


def plain_pairs(batch, counts_V, sample, window):
  """Yields ((row, t), centre, neighbour, share of the centre kept, pair weight)."""
  share_V = counts_V / counts_V.sum()
  ratio_V = sample / np.maximum(share_V, 1e-30)
  keep_V = np.where(counts_V > 0, np.minimum(1, np.sqrt(ratio_V) + ratio_V), 0)
  for row in range(B):
    real = batch["weights_BT"][row] > 0
    ids, segments = batch["tokens_BT"][row], batch["segments_BT"][row]
    for t in np.flatnonzero(real):
      for s in range(max(0, t - window), min(T, t + window + 1)):
        if s != t and real[s] and segments[s] == segments[t]:
          wide = (window + 1 - abs(s - t)) / window
          yield (row, t), ids[t], ids[s], keep_V[ids[t]], keep_V[ids[s]] * wide


def torch_loss(objective, batch, counts_V, params, *, sample, window, negatives):
  """Returns (loss, weight) by torch, pair by pair; noise is the whole vocabulary."""
  nats = torch.nn.functional.softplus
  noise_V = torch.tensor(counts_V / counts_V.sum()) * 0 + torch.tensor(counts_V**0.75)
  noise_V = noise_V / noise_V.sum()
  words_VD, around_VD = params
  wrong = lambda x_D: negatives * (noise_V * nats(around_VD[:V] @ x_D)).sum()
  pairs = list(plain_pairs(batch, counts_V, sample, window))
  loss = weight = 0
  if objective == "skip_gram":
    for _, centre, neighbour, keep_share, pair_weight in pairs:
      x_D = words_VD[centre]
      loss += (
        keep_share * pair_weight * (nats(-(x_D @ around_VD[neighbour])) + wrong(x_D))
      )
      weight += keep_share * pair_weight
    return loss, weight
  for place in dict.fromkeys(pair[0] for pair in pairs):
    place_pairs = [pair for pair in pairs if pair[0] == place and pair[4] > 0]
    if not place_pairs or not place_pairs[0][3]:
      continue
    total = sum(pair[4] for pair in place_pairs)
    x_D = sum(
      words_VD[neighbour] * (pair_weight / total)
      for _, _, neighbour, _, pair_weight in place_pairs
    )
    _, centre, _, keep_share, _ = place_pairs[0]
    loss += keep_share * (nats(-(x_D @ around_VD[centre])) + wrong(x_D))
    weight += keep_share
  return loss, weight


OPTIONS = dict(sample=5e-3, window=3, negatives=4)


@pytest.mark.parametrize("name", ["skip_gram", "cbow"])
def test_loss_and_gradient_are_those_of_the_book(name):
  """Compares the expected loss with torch in float64, pair by pair."""
  batch, counts_V, params = draw()
  model = models.build("word2vec", vocab=V, width=D)
  objective = lookup.function("lm.objectives", name)
  words = {"words": Words.from_counts(counts_V, OPTIONS["sample"])}
  run = partial(objective, model.apply, given=words, **OPTIONS)
  loss = lambda params: run(params, batch, None, train=False)["loss"]
  (actual, weight), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  tables = [torch.tensor(params[k]["table"], dtype=torch.float64) for k in params]
  tables = [table.requires_grad_() for table in tables]
  expected, expected_weight = torch_loss(name, batch, counts_V, tables, **OPTIONS)
  expected.backward()
  assert float(weight) == pytest.approx(float(expected_weight), rel=1e-5)
  assert float(actual) == pytest.approx(expected.item(), rel=1e-5)
  for key, table in zip(params, tables, strict=True):
    np.testing.assert_allclose(grads[key]["table"], table.grad, rtol=1e-4, atol=1e-4)


def test_what_is_drawn_is_on_average_what_is_expected():
  """Runs without thinning, since it closes gaps, which changes the average."""
  batch, counts_V, params = draw()
  batch = {key: x[:1] for key, x in batch.items()}
  batch["tokens_BT"] = np.maximum(1, batch["tokens_BT"])  # 0 is no word, but a gap
  model = models.build("word2vec", vocab=V, width=D)
  words = {"words": Words.from_counts(counts_V, 0)}
  options = dict(given=words, window=3, negatives=4)
  run = partial(skip_gram, model.apply, params, batch, **options)
  keys = jax.random.split(jax.random.key(0), 100)
  losses, weights = jax.jit(jax.vmap(lambda key: run(key)["loss"]))(keys)
  expected, weight = jax.jit(lambda: run(None, train=False)["loss"])()
  for samples, mean in ((losses, expected), (weights, weight)):
    assert abs(np.mean(samples) - mean) < 4 * np.std(samples) / np.sqrt(len(keys))


def draws(words, window):
  return jax.jit(
    lambda key, batch: vars(windows.sample_windows(key, batch, words, window))
  )


def test_windows_close_over_the_words_that_are_left_out():
  batch, counts_V, _ = draw()
  words = Words.from_counts(counts_V, 0.0)
  drawn_windows = jax.device_get(draws(words, 3)(jax.random.key(1), batch))
  rows = -(-T // windows.BLOCK)
  met = set()
  for block in range(B * rows):
    for t, w in zip(*np.nonzero(drawn_windows["pairs_BTW"][block]), strict=True):
      centre, neighbour = (
        drawn_windows["centres_BT"][block, t],
        drawn_windows["neighbours_BS"][block, t + w],
      )
      met.add((block // rows, int(centre), int(neighbour)))
  for row in range(B):
    real = (batch["weights_BT"][row] > 0) & (counts_V[batch["tokens_BT"][row]] > 0)
    ids, segments = (batch[k][row][real] for k in ("tokens_BT", "segments_BT"))
    same_segment = segments[1:] == segments[:-1]
    # A window is one word wide at least, so neighbours always meet.
    beside = {
      (row, a, b)
      for a, b in zip(ids[:-1][same_segment], ids[1:][same_segment], strict=True)
    }
    assert beside <= met
    far = {(row, a, b) for d in (1, 2, 3) for a, b in zip(ids, ids[d:], strict=False)}
    assert {m for m in met if m[0] == row} <= far | {(r, b, a) for r, a, b in far}
  assert not any(0 in pair[1:] for pair in met)


def test_frequent_words_are_thinned_and_noise_follows_the_counts():
  counts_V = np.array([0, 900_000, 99_000, 1_000, 0])
  words = Words.from_counts(counts_V, 1e-3)
  ratio = np.sqrt(1e-3 / 0.9) + 1e-3 / 0.9
  np.testing.assert_allclose(words.keep_V, [0, ratio, 0.1106, 1, 0], atol=1e-4)
  ids = jax.jit(lambda key: words.noise(key, (50_000,)))(jax.random.key(0))
  drawn = np.bincount(ids, minlength=5) / len(ids)
  np.testing.assert_allclose(drawn, words.noise_V, atol=1e-2)
  assert drawn[0] == drawn[4] == 0
  tokens_BT = np.random.default_rng(0).choice(5, (20, 2000), p=counts_V / 1e6)
  batch = {"tokens_BT": tokens_BT.astype(np.int32), "weights_BT": np.ones((20, 2000))}
  drawn_windows = draws(words, 2)(jax.random.key(0), batch)
  kept_share = float(drawn_windows["weights_BT"].sum()) / tokens_BT.size
  assert kept_share == pytest.approx(words.kept, rel=0.1)
  with pytest.raises(
    Mistake, match="sample=-1; wanted 0 or more, and a text with words"
  ):
    Words.from_counts(counts_V, -1)
  with pytest.raises(ValueError, match="window=0; wanted 1 or more words on either"):
    draws(words, 0)(jax.random.key(0), batch)


@pytest.mark.parametrize("name", ["skip_gram", "cbow", "glove"])
def test_sharded_equals_one_device_and_names_tell_the_shapes(name):
  batch, counts_V, params = draw()
  batch = {k: np.tile(x[:, :64], (4, 1)) for k, x in batch.items()}
  family = "glove" if name == "glove" else "word2vec"
  options = {}
  if name != "glove":
    words = Words.from_counts(counts_V, OPTIONS["sample"])
    options = dict(given={"words": words}, **OPTIONS)
  model = models.build(family, vocab=V, width=D)
  if name == "glove":
    params |= dict.fromkeys(("bias", "around_bias"), params["embed"]["table"][:, 0])
  run = partial(lookup.function("lm.objectives", name), model.apply, **options)
  loss = lambda p, batch: jnp.divide(*run(p, batch, jax.random.key(5))["loss"])
  with checked("lm/") as names:
    jax.eval_shape(loss, params, batch)
  assert len(names) > 5
  expected = jax.jit(jax.value_and_grad(loss))(params, batch)
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  shapes, letters = abstract(model, batch["tokens_BT"])
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, shardings(mesh, letters, shapes))
    rows = jax.device_put(batch, batch_shardings(mesh, batch))
    actual = jax.jit(jax.value_and_grad(loss))(placed, rows)
  jax.tree.map(
    partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), actual, expected
  )


def test_glove_is_weighted_least_squares():
  """Compares loss and gradient of GloVe's equation 8 with torch."""
  random, size = np.random.default_rng(0), 128
  noise = lambda *shape: random.standard_normal(shape).astype(np.float32)
  params = {name: {"table": noise(size, D)} for name in ("embed", "around")}
  params |= {name: noise(size) for name in ("bias", "around_bias")}
  ids = random.integers(0, V, (2, B, T)).astype(np.int32)
  counts_BT = random.exponential(60, (B, T)).astype(np.float32)
  counts_BT[:, :9] = 0  # padding
  batch = {"tokens_BT": ids[0], "targets_BT": ids[1], "weights_BT": counts_BT}
  model = models.build("glove", vocab=V, width=D)
  run = lambda p: glove(model.apply, p, batch, None, train=False)["loss"]
  (actual, weight), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
  assert float(weight) == B * (T - 9)
  p = jax.tree.map(lambda x: torch.tensor(x, requires_grad=True), params)
  first_ids, second_ids, x = (
    torch.tensor(a)[:, 9:] for a in (*ids.astype(int), counts_BT)
  )
  score = (p["embed"]["table"][first_ids] * p["around"]["table"][second_ids]).sum(-1)
  score = score + p["bias"][first_ids] + p["around_bias"][second_ids]
  expected = (torch.clamp((x / 100) ** 0.75, max=1) * (score - torch.log(x)) ** 2).sum()
  expected.backward()
  assert float(actual) == pytest.approx(expected.item(), rel=1e-5)
  close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  jax.tree.map(lambda grad, table: close(grad, table.grad), grads, p)


@pytest.mark.parametrize("name", ["skip_gram", "cbow"])
def test_fit_wants_the_counts_of_words(name):
  batch, counts_V, _ = draw()
  del batch["targets_BT"]
  fit = partial(lm.fit, models.build("word2vec", vocab=V, width=D), None)
  with pytest.raises(
    Mistake, match=rf"needs arrays.*make\('{name}', dataset=dataset\)"
  ):
    fit(lambda step: batch, num_steps=1, objective=name)
  given = {"words": Words.from_counts(counts_V, 0)}
  _, [metrics] = fit(lambda step: batch, num_steps=1, objective=name, given=given)
  # Both scores of a pair are 0 at first: ln 2 for the neighbour and each noise word.
  assert metrics["train/loss"] == pytest.approx(6 * np.log(2), rel=1e-5)
