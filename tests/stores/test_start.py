"""A model that starts from a stored one: whose fields it has, and what may differ."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import lm
from experiments import config
from lm import models, stores
from lm.data import tokenizers
from lm.letters import unbox
from lm.train import compose
from lm.train.config import Experiment

OWN = dict(width=16, layers=1, heads=2, context=64, theta=1e6, eps=1e-6, window=9)


def saved(folder, family="decoder", **fields):
  """Saves a model with random parameters; returns the folder."""
  tokenizer = tokenizers.byte_tokenizer()
  model = models.build(family, vocab=tokenizer.size, **fields)
  params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
  lm.save(folder, model, unbox(params), tokenizer)
  return folder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
  return saved(tmp_path_factory.mktemp("decoder") / "run", **OWN)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  fields = OWN | dict(pooler=True, head="classes", classes=2)
  return saved(tmp_path_factory.mktemp("encoder") / "run", "encoder", **fields)


def planned(path, model, fresh=(), **values):
  """Returns the plan of a config file with these values of `model`."""
  data = dict(source="shakespeare")
  values = dict(num_steps=1, batch=8, seq=16, model=model, data=data) | values
  values |= dict(init=dict(path=str(path), fresh=fresh))
  completed = config.complete(ConfigDict(values)).to_dict()
  return compose.plan(Experiment.of(completed), jax.devices()[:1])


@pytest.mark.parametrize(
  "model", [{}, dict(family="decoder"), dict(width=16, eps=1e-6)]
)
def test_what_a_config_leaves_out_is_the_models_own(decoder, model):
  fields = planned(decoder, model).experiment.model
  assert models.build(**fields, vocab=258) == stores.open(decoder).model


def test_sizes_that_others_imply_may_be_spelt_out(decoder):
  planned(decoder, dict(kv_heads=2, ff=64, head_size=8))
  with pytest.raises(ValueError, match="has another model: blocks/"):
    planned(decoder, dict(ff=72))


def test_a_description_without_defaults_is_completed_too(decoder):
  values = dict(num_steps=1, batch=8, seq=16, model={}, init=dict(path=str(decoder)))
  plan = compose.plan(Experiment.of(values | dict(data=dict(source="shakespeare"))))
  assert plan.model(258) == stores.open(decoder).model


def test_how_it_is_computed_and_trained_is_free(decoder):
  free = dict(dtype="bfloat16", scan=False, remat="full", dropout=0.1, backend="xla")
  free |= dict(context=32, capacity=1.25)
  model = planned(decoder, free).model(258)
  assert models.fields(model).items() >= (OWN | free).items()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(theta=1e4), "theta is 1000000.0, not 10000.0; wanted its own: --"),
    (dict(eps=1e-5), "eps is 1e-06, not 1e-05"),
    (dict(window=0), "window is 9, not 0"),
    (dict(softcap=9.0, width=16), "softcap is 0.0, not 9.0; "),
    (dict(scaling="linear", factor=2.0), "scaling is 'none', not 'linear', factor is"),
    (dict(order="after"), "order is 'before', not 'after'"),
    (dict(tied=False), "tied is True, not False"),
    (dict(width=32), "width is 16, not 32"),
    (dict(family="rnn"), "family is 'decoder', not 'rnn'; wanted its own: "),
  ],
)  # fmt: skip
def test_another_model_of_the_same_shapes_is_refused(decoder, change, message):
  with pytest.raises(ValueError) as error:
    planned(decoder, change)
  assert f"{decoder} has another model than the config: " in str(error.value)
  assert message in str(error.value)


def test_a_preset_stands_for_its_values(tmp_path):
  folder = saved(tmp_path / "run", preset="qwen3-0.6b", width=16, layers=1, ff=32,
    heads=2, kv_heads=1, context=128)  # fmt: skip
  sizes = dict(width=16, layers=1, ff=32, heads=2, kv_heads=1)
  preset = dict(family="decoder", preset="qwen3-0.6b")
  plan = planned(folder, preset | sizes)
  assert plan.model(258) == stores.open(folder).model  # its limit of rows, too
  with pytest.raises(ValueError, match="width is 16, not 1024"):
    planned(folder, preset)
  with pytest.raises(ValueError, match=r"model.theta=1000000.0 .*model.factor=1.0"):
    planned(folder, sizes | dict(family="decoder", preset="llama-1b"))


def test_only_a_head_that_is_drawn_may_be_another_one(encoder):
  store = stores.open(encoder)
  fields = store.completed(dict(head="labels"))
  for fresh in ((), ("blocks/.*",)):  # its classifier would fit
    with pytest.raises(ValueError, match="head is 'classes', not 'labels'"):
      store.check_fields(fields, fresh=fresh)
  store.check_fields(fields, fresh=("classifier/.*",))
  store.check_fields(store.completed(dict(head="none")))


@pytest.mark.parametrize(
  ("tokenizer", "is_other"),
  [
    ("bytes", False),
    ("bpe-258", False),  # known once it is learnt
    ("bpe-300", False),
    ("path", True),
    ("own", False),
  ],
)
def test_another_tokenizer_is_noticed_without_data(
  tokenizer, is_other, decoder, tmp_path
):
  tokenizers.byte_tokenizer().extended(["<more>"]).save(tmp_path)
  paths = {"path": str(tmp_path), "own": str(decoder / "tokenizer")}
  data = dict(source="shakespeare", tokenizer=paths.get(tokenizer, tokenizer))
  if not is_other:
    planned(decoder, {}, data=data)
    return
  with pytest.raises(ValueError, match="was trained with another tokenizer than"):
    planned(decoder, {}, data=data)


def test_a_tokenizer_that_cannot_become_so_large_is_noticed(tmp_path):
  larger = tokenizers.byte_tokenizer().extended([f"<{i}>" for i in range(99)])
  model = models.build("decoder", vocab=larger.size, **OWN)
  params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
  lm.save(tmp_path / "run", model, unbox(params), larger)
  with pytest.raises(ValueError, match="was trained with another tokenizer than"):
    data = dict(source="shakespeare", tokenizer="bpe-300")
    planned(tmp_path / "run", {}, data=data)
