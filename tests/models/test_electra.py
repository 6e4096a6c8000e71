"""ELECTRA: two encoders equal transformers', an objective checked by its sums."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, VOCAB, tokens

from lm import letters as dims
from lm import models
from lm.letters import batch_shardings, make_mesh, shardings
from lm.models import Features
from lm.objectives.masked_lm import masked_lm
from lm.objectives.replaced_token import replaced_token
from lm.objectives.softmax import sample
from lm.stores.hf.mapping import Mapping, layers, linear, norm
from lm.stores.hf.reshape import flat, rows, same, transposed
from lm.trees import by_path, shapes_of

B, T = 8, 12
PARTS = {"generator": (16, 2, 32), "discriminator": (32, 4, 64)}
torch.set_num_threads(1)


def hf_models():
  """Returns transformers' [generator, discriminator], random, sharing embeddings."""
  torch.manual_seed(0)
  kinds = transformers.ElectraForMaskedLM, transformers.ElectraForPreTraining
  models = [
    kind(
      transformers.ElectraConfig(
        vocab_size=VOCAB,
        embedding_size=20,
        hidden_size=D,
        num_attention_heads=N,
        intermediate_size=F,
        num_hidden_layers=2,
        max_position_embeddings=16,
      )
    ).eval()
    for kind, (D, N, F) in zip(kinds, PARTS.values(), strict=True)
  ]
  with torch.no_grad():
    for weight in [w for model in models for w in model.parameters()]:
      weight += 0.2 * torch.randn_like(weight)
  generator, discriminator = (model.electra.embeddings for model in models)
  generator.load_state_dict(discriminator.state_dict())
  return models


def table(model, params):
  """Returns the Mapping of both models' tensors to our parameters.

  The prefix "electra." becomes "generator." or "discriminator.".
  """
  mapping_rows = layers(
    "",
    "generator.embeddings.",
    ("embed/table", "word_embeddings.weight", rows(VOCAB)),
    ("positions/table", "position_embeddings.weight", same),
    ("types/table", "token_type_embeddings.weight", same),
    *norm("norm", "LayerNorm"),
  )
  for part in PARTS:
    mapping_rows += layers(
      f"{part}/", f"{part}.", *linear("project", "embeddings_project", transposed())
    )
    mapping_rows += layers(
      f"{part}/blocks/layer/",
      part + ".encoder.layer.{}.",
      *linear("attention/q", "attention.self.query", transposed(), flat),
      *linear("attention/k", "attention.self.key", transposed(), flat),
      *linear("attention/v", "attention.self.value", transposed(), flat),
      *linear("attention/o", "attention.output.dense", transposed(2)),
      *norm("attention_norm", "attention.output.LayerNorm"),
      *linear("ff/up", "intermediate.dense", transposed()),
      *linear("ff/down", "output.dense", transposed()),
      *norm("ff_norm", "output.LayerNorm"),
    )
  heads = [
    *linear("head/dense", "generator_predictions.dense", transposed()),
    *norm("head/norm", "generator_predictions.LayerNorm"),
    ("bias", "generator_lm_head.bias", rows(VOCAB)),
    *linear("detector/dense", "discriminator_predictions.dense", transposed()),
    *linear("detector/out", "discriminator_predictions.dense_prediction", transposed()),
  ]
  return Mapping(mapping_rows + layers("", "", *heads), shapes_of(params))


def copied(model, params, hf_parts):
  """Returns our parameters, with the values of transformers' two models."""
  tensors = {
    name.replace("electra", part): array.numpy()
    for part, hf_part in zip(PARTS, hf_parts, strict=True)
    for name, array in hf_part.state_dict().items()
  }
  into = table(model, params).into
  whole = lambda leaf: (slice(None),) * leaf.ndim
  paths = by_path(params)
  new = [into(path, tensors.get, whole(leaf)) for path, leaf in paths.items()]
  return jax.tree.unflatten(jax.tree.structure(params), new)


def test_both_equal_transformers_with_types_and_padding():
  hf_parts, family = hf_models(), FAMILIES["electra"]
  model = family.model(ff=64)
  params = copied(model, family.params(ff=64), hf_parts)
  real_BT = np.arange(T)[None] < np.array([[T], [7]])
  types_BT = np.broadcast_to(np.arange(T) >= 5, (2, T)).astype(np.int32)
  positions_BT = np.where(real_BT, np.arange(T)[None], -1).astype(np.int32)
  options = dict(types_BT=types_BT, positions_BT=positions_BT)

  @jax.jit
  def run(params, tokens_BT):
    apply = partial(model.apply, {"params": params})
    x_BTD, *_ = apply(tokens_BT, method="judged", **options)
    return apply(tokens_BT, **options)[0], apply(x_BTD, method="scores")

  long = lambda x: torch.from_numpy(np.asarray(x, np.int64))
  hf_inputs = dict(
    input_ids=long(tokens(2, T)),
    token_type_ids=long(types_BT),
    attention_mask=long(real_BT),
  )
  for actual, hf_part in zip(run(params, tokens(2, T)), hf_parts, strict=True):
    with torch.no_grad():
      expected = hf_part(**hf_inputs).logits.numpy()
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(actual[real_BT], expected[real_BT], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
  "name, millions, generator",
  [("small", 14, (64, 1, 256)), ("base", 110, (256, 4, 1024)), ("large", 335, None)],
)
def test_presets_have_the_published_sizes(name, millions, generator):
  model = models.build("electra", preset=f"electra-{name}", vocab=30_522)
  c = model.config
  shapes, _ = dims.abstract(model, jnp.zeros((1, 2), jnp.int32))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  count_of_ours = count(shapes) - sum(
    count(shapes[k]) for k in ("generator", "head", "bias")
  )
  padding = (30_592 - 30_522) * c.A
  with torch.device("meta"):
    config = transformers.ElectraConfig(
      embedding_size=c.A,
      hidden_size=c.width,
      num_hidden_layers=c.layers,
      num_attention_heads=c.heads,
      intermediate_size=c.F,
    )
    expected = transformers.ElectraForPreTraining(config).num_parameters()
  assert count_of_ours - padding == expected
  assert expected / 1e6 == pytest.approx(millions, rel=0.04)
  small = c.smaller()
  if generator:
    assert (small.width, small.heads, small.F) == generator


def test_samples_are_as_frequent_as_likely():
  logits_V = np.random.default_rng(0).normal(size=256).astype("f4") * 2
  logits_V[201:] = np.finfo(np.float32).min
  n = 20_000
  uniform_BT = ((np.arange(n, dtype=np.float32) + 0.5) / n)[None]
  ids_BT = sample(jnp.broadcast_to(logits_V, (1, n, 256)), uniform_BT)
  share_V = np.bincount(ids_BT[0], minlength=256) / n
  np.testing.assert_allclose(share_V, jax.nn.softmax(logits_V), atol=2 / n)
  ends = sample(jnp.broadcast_to(logits_V, (1, 2, 256)), jnp.array([[0, 1 - 2**-24]]))
  assert set(np.asarray(ends)[0].tolist()) <= set(range(201))


def batch():
  """Returns rows with tokens 1, 4, 7... hidden; one is short, one is padding."""
  text_BT, real_BT = (
    tokens(B, T),
    np.arange(T)[None] < np.array([T] * 6 + [5, 0])[:, None],
  )
  hidden_BT = real_BT & (np.arange(T) % 3 == 1)[None]
  return {
    "tokens_BT": np.where(hidden_BT, VOCAB - 1, text_BT).astype(np.int32),
    "targets_BT": np.where(real_BT, text_BT, 0).astype(np.int32),
    "weights_BT": hidden_BT.astype(np.float32),
    "segments_BT": real_BT.astype(np.int32),
    "bytes_BT": np.ones((B, T), np.int32),
  }


def test_sums_by_hand():
  """Uses a generator that is sure, right or wrong, and a detector of fixed scores."""
  rows, rng = batch(), np.random.default_rng(0)
  sampled_BT = np.where(rng.random((B, T)) < 0.5, rows["targets_BT"], 3)
  logits_BTV = np.where(sampled_BT[..., None] == np.arange(128), 30.0, 0.0).astype("f4")
  scores_BT, judged = rng.normal(size=(B, T)).astype("f4"), []

  def apply(variables, x, *, method, **options):
    if method == "judged":
      judged.append(x)
    return {"readout": logits_BTV, "scores": scores_BT}.get(method, Features(x))

  sums = jax.device_get(replaced_token(apply, {}, rows, None, train=False))
  loss, weight = sums["loss"]
  hidden_BT, real_BT = rows["weights_BT"] > 0, rows["segments_BT"] > 0
  row_BT = np.where(hidden_BT, sampled_BT, rows["targets_BT"])
  np.testing.assert_array_equal(judged, [row_BT])
  new_BT = row_BT != rows["targets_BT"]
  nats_BT = np.log1p(np.exp(np.where(new_BT, -scores_BT, scores_BT)))
  mean_B = (nats_BT * real_BT).sum(1) / np.maximum(real_BT.sum(1), 1)
  assert weight == hidden_BT.sum() and "bits_per_byte" not in sums
  expected = sums["nats_per_token"][0] + 50 * (mean_B * hidden_BT.sum(1)).sum()
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  replaced_BT = (scores_BT > 0) & new_BT & real_BT
  original_BT = (scores_BT <= 0) & ~new_BT & real_BT
  assert 0 < replaced_BT.sum() < new_BT.sum()
  assert sums["replaced_accuracy"] == (replaced_BT.sum(), new_BT.sum())
  assert sums["original_accuracy"][0] == original_BT.sum()
  nats, count = sums["detector_nats_per_token"]
  assert count == real_BT.sum()
  np.testing.assert_allclose(nats, (nats_BT * real_BT).sum(), rtol=1e-5)


def test_rows_add_up_in_any_batch_and_the_generator_learns_as_in_masked_lm():
  family = FAMILIES["electra"]
  model, params, rows = family.model(), family.params(), batch()
  run = lambda objective: jax.jit(
    lambda rows, **options: objective(model.apply, params, rows, None, train=False)
  )
  whole, sums = run(replaced_token)(rows), run(replaced_token)
  halves = [sums({k: x[i::2] for k, x in rows.items()}) for i in range(2)]
  close = partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-5)
  jax.tree.map(lambda a, b, c: close(a + b, c), *halves, whole)
  pieces = partial(replaced_token, logits_bytes=4 * B * T * 128 // 3)
  jax.tree.map(close, run(pieces)(rows), whole)
  plain = run(partial(replaced_token, detector=0.0))(rows)["loss"]
  text = {k: x for k, x in rows.items() if k != "bytes_BT"}
  close(plain, run(masked_lm)(text)["loss"])


def test_training_on_a_mesh_unrolled_equals_one_device_scanned():
  """Compares loss and gradients of both encoders, with samples of the same key."""
  family, rows = FAMILIES["electra"], batch()
  params = family.params()

  def step(model):
    def loss(params, rows, key):
      sums = replaced_token(model.apply, params, rows, key)
      return jnp.divide(*sums["loss"]), sums

    return jax.value_and_grad(loss, has_aux=True)

  keys = [jax.random.key(seed) for seed in (1, 2)]
  scanned = jax.jit(step(family.model(scan=True)))
  expected = scanned(params, rows, keys[0])
  rekeyed = scanned(params, rows, keys[1])[0][1]
  name = "detector_nats_per_token"
  assert expected[0][1][name] != rekeyed[name]
  for part in PARTS:
    assert np.abs(expected[1][part]["blocks"]["layer"]["ff"]["up"]).max() > 1e-4
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  abstract, letters = dims.abstract(family.model(), tokens(1, 2))
  param_shardings = shardings(mesh, letters, abstract)
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, param_shardings)
    split = jax.device_put(rows, batch_shardings(mesh, rows))
    unrolled = jax.jit(
      step(family.model(scan=False)), out_shardings=(None, param_shardings)
    )
    actual = unrolled(placed, split, keys[0])
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-4),
    actual,
    expected,
  )


def test_mistakes_are_one_line():
  with pytest.raises(ValueError, match=r"generator=0; wanted more than 0, at most 1"):
    models.build("electra", vocab=9, generator=0.0)
  with pytest.raises(ValueError, match="heads=3 does not divide width=32"):
    models.build("electra", vocab=9, width=32, heads=3)
