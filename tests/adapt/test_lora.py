"""Adapters of every family: merged equals apart, and only what is trained moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, tokens

from lm import adapt, objectives, trees
from lm.adapt import prompt
from lm.data.tokenizers import byte_tokenizer
from lm.letters import make_mesh, unbox
from lm.optim import Optim
from lm.train import build

LORA = dict(name="lora", rank=3, alpha=6.0, where=".*")
PROMPT = dict(name="prompt", length=2)
BEGIN = np.arange(2) + byte_tokenizer().size  # its ids


def adapted(name, *, options=LORA, seed=1, **fields):
  """Returns (model, adapter, params, frozen): adapters of random numbers."""
  family = FAMILIES[name]
  model = family.model(**fields)
  about = dict(seq=6, task={"name": "classify"})
  adaptation = adapt.make(options).fitted(byte_tokenizer(), **about)
  adapter = adapt.Adapter(adaptation, model)
  draw = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda key: unbox(adapter.init(key)), jax.random.key(0))
  params = jax.tree.map(
    lambda x: jnp.asarray(0.3 * draw.standard_normal(x.shape, np.float32)), shapes
  )
  leaves = trees.by_path(family.params())
  return model, adapter, params, {path: leaves[path] for path in adapter.frozen}


def logits(model, params, inputs):
  return model.apply({"params": params}, tokens(2, 6), **inputs)[0]


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"word2vec", "glove"}))
def test_merged_parameters_give_the_same_logits(name, dora):
  model, adapter, params, frozen = adapted(name, options=LORA | {"dora": dora})
  inputs = FAMILIES[name].inputs(2)
  apart = logits(model, adapter.joined(params, frozen), inputs)
  merged = adapter.merged(params, frozen)
  own = FAMILIES[name].params()
  assert trees.describe(merged) == trees.describe(own)
  np.testing.assert_allclose(apart, logits(model, merged, inputs), atol=1e-4)
  assert np.abs(apart - logits(model, own, inputs)).max() > 1e-2


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("scan", [False, True])
def test_a_new_adapter_changes_nothing(scan, dora):
  options = LORA | {"dora": dora}
  model, adapter, _, frozen = adapted("llama", options=options, scan=scan)
  own = FAMILIES["llama"].params()
  drawn = unbox(adapter.init(jax.random.key(3)))
  params = adapter.started(drawn, trees.by_path(own))
  joined = adapter.joined(params, frozen)
  np.testing.assert_allclose(
    logits(model, joined, {}), logits(model, own, {}), atol=2e-5
  )
  # Of the range of PyTorch's linear layers, and each matrix from other numbers.
  a_q, a_k = (params["blocks"]["layer"]["attention"][n]["a"] for n in "qk")
  assert np.abs(a_q).max() <= 32**-0.5 and not np.allclose(a_q, a_k)


def trained(adapter, model, frozen, mesh=None, num_steps=3):
  """Returns (state, losses, abstract) after a few updates."""
  batch = {"tokens_BT": tokens(8, 6), "targets_BT": tokens(8, 6, seed=2)}
  if isinstance(adapter.adaptation, prompt.Adaptation):
    batch["tokens_BT"][:, : len(BEGIN)] = BEGIN
  batch["weights_BT"] = np.ones((8, 6), np.float32)
  objective = adapter.objective(objectives.make("next_token")[0])
  options = adapter.options(None, frozen)
  optim = Optim(lr=1e-2, decay=0.0, schedule="constant")
  trainer = build(model, objective, optim, mesh, batch=batch, num_steps=9, **options)
  with jax.set_mesh(trainer.mesh):
    state, losses = trainer.init(jax.random.key(0)), []
    for _ in range(num_steps):
      state, metrics = trainer.step(state, batch, jax.random.key(1))
      losses.append(float(metrics["train/loss"]))
  return state, losses, trainer.abstract


@pytest.mark.parametrize(
  "options, names", [(LORA, {"a", "b"}), (PROMPT, {"prompt"})], ids=["lora", "prompt"]
)
def test_only_the_adapters_are_trained(options, names):
  model, adapter, _, frozen = adapted("llama", options=options)
  before = jax.tree.map(np.array, frozen)
  state, losses, abstract = trained(adapter, model, frozen)
  assert losses[-1] < losses[0]
  jax.tree.map(np.testing.assert_array_equal, state.given.frozen, before)
  # Two moments for each trained number, and nothing for the others.
  sizes = [sum(x.size for x in jax.tree.leaves(t)) for t in (state.params, state.opt)]
  assert 2 * sizes[0] <= sizes[1] <= 2 * sizes[0] + 3
  paths = {path.rpartition("/")[2] for path in trees.by_path(state.params)}
  assert paths == names
  assert not trees.by_path(abstract.saved().given)


@pytest.mark.parametrize("options", [LORA | {"dora": True}, PROMPT], ids=str)
@pytest.mark.parametrize("axes", [dict(fsdp=8), dict(data=2, fsdp=2, tensor=2)])
def test_on_a_mesh_it_equals_one_device(axes, options):
  model, adapter, _, frozen = adapted("gpt2", options=options)
  one, *_ = trained(adapter, model, frozen)
  _, losses, abstract = trained(adapter, model, frozen, make_mesh(**axes))
  own = trained(adapter, model, frozen)[1]
  np.testing.assert_allclose(losses, own, rtol=1e-5)
  frozen_q = abstract.given.frozen["blocks/layer/attention/q"]
  assert not frozen_q.sharding.is_fully_replicated
  assert one.params.keys() == abstract.params.keys()


def test_a_part_of_the_parameters_is_trained_as_it_is():
  options = dict(name="part", train=(".*attention/o", "norm/.*"))
  model, adapter, _, frozen = adapted("llama", options=options)
  state, losses, _ = trained(adapter, model, frozen)
  assert set(trees.by_path(state.params)) == {"blocks/layer/attention/o", "norm/scale"}
  assert losses[-1] < losses[0]


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(name="lora", rank=0), "rank=0; wanted"),
    (dict(name="lora", ranks=4), "adapt 'lora' has no value 'ranks'; did you mean"),
    (dict(name="lora", where="query"), "adapt.where='query' names no frozen matrix"),
    (
      dict(name="lora", where="embed/table"),
      "names no frozen matrix; there are blocks",
    ),
    (
      dict(name="part"),
      "adapt leaves nothing to train; name parameters in adapt.train",
    ),
    (dict(name="part", train="query"), "adapt.train: 'query' names no parameter of"),
    (dict(name="laura"), "no 'laura' in lm/adapt; did you mean 'lora'"),
    (dict(name="prompt", length=0), "length=0; wanted"),
  ],
)
def test_what_does_not_fit_is_one_line(options, message):
  with pytest.raises(ValueError) as error:
    adapt.Adapter(adapt.make(options), FAMILIES["gpt2"].model())
  assert message in str(error.value) and "\n" not in str(error.value)


def test_experts_have_no_adapters():
  *_, params, _ = adapted("moe")
  assert {path.split("/")[2] for path in trees.by_path(params)} == {"attention"}
