"""Recurrent models: states equal torch's, gradients equal those of a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from families import FAMILIES, tokens

from lm import models
from lm.letters import abstract
from lm.nn.recurrent import CELLS, over_time

B, T, D = 3, 7, 8
CLOSE = dict(rtol=1e-5, atol=1e-5)
torch.set_num_threads(1)
each_cell = pytest.mark.parametrize("name", CELLS)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


# torch has (gates * hidden, in) matrices and two biases


def matrix(w_ND):
  D = w_ND.shape[1]
  return w_ND.T.reshape(D, -1, D)


def layer(torch_module, l: int, cell: str):
  """Returns the parameters of our layer l from those of a torch module."""
  get = lambda name: getattr(torch_module, f"{name}_l{l}").detach().numpy()
  first_IF, second_IF = (
    get(name).reshape(CELLS[cell].gates, -1) for name in ("bias_ih", "bias_hh")
  )
  params = {"input": matrix(get("weight_ih")), "recurrent": matrix(get("weight_hh"))}
  if cell == "lstm":
    return params | {"bias": first_IF + second_IF}
  bias_IF = first_IF + np.array([[1], [1], [0]]) * second_IF
  return params | {"bias": bias_IF, "recurrent_bias": second_IF[-1]}


@each_cell
def test_states_are_those_of_torch(name):
  """Compares all states of two layers, from an initial state that is not zero."""
  kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name]
  torch.manual_seed(0)
  torch_module = kind(D, D, num_layers=2, batch_first=True)
  with torch.no_grad():
    for weight in torch_module.parameters():
      weight += 0.5 * torch.randn_like(weight)
  family = FAMILIES[name]
  model = family.model(width=D, tied=True)
  layers = [layer(torch_module, l, name) for l in range(2)]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *layers)
  table_VD = noise(128, D)
  params = {"embed": {"table": table_VD}, "blocks": {"layer": {"cell": stacked}}}

  tokens_BT, parts = tokens(B, T), CELLS[name].state
  first = {part: noise(2, B, D, seed=i) for i, part in enumerate(parts)}
  cache = model.init_cache(B, 0).replace(layers=first)
  x_BTD, cache, _ = jax.jit(
    lambda params, cache: model.apply(
      {"params": params}, tokens_BT, cache=cache, method="features"
    )
  )(params, cache)

  states = [torch.from_numpy(x) for x in first.values()]
  expected_BTD, last_states = torch_module(
    torch.from_numpy(table_VD[tokens_BT]), states[0] if name == "gru" else states
  )
  assert np.abs(expected_BTD.detach().numpy()).std() > 0.1
  np.testing.assert_allclose(x_BTD, expected_BTD.detach().numpy(), **CLOSE)
  last_states = [last_states] if name == "gru" else last_states
  for part, state in zip(parts, last_states, strict=True):
    np.testing.assert_allclose(cache.layers[part], state.detach().numpy(), **CLOSE)


@each_cell
def test_the_gradient_is_that_of_the_loop_written_out(name):
  cell = CELLS[name]
  draw = np.random.default_rng(5)
  masks = {"real": draw.random((T, B)) > 0.3, "fresh": draw.random((T, B)) > 0.7}

  def plain(x_TBIF, weights, state):
    (w_DIF, b_IF), outputs = weights, []
    for t in range(T):
      pick = lambda name, yes, no, t=t: jax.tree.map(
        lambda a, b: jnp.where(masks[name][t][:, None], a, b), yes, no
      )
      state = pick("fresh", jax.tree.map(jnp.zeros_like, state), state)
      h_BIF = jnp.einsum("BD,DIF->BIF", state["h_BD"], w_DIF) + b_IF[None]
      state = pick("real", cell.step(x_TBIF[t], h_BIF, state), state)
      outputs.append(state["h_BD"])
    return jnp.stack(outputs), state

  def scanned(x_TBIF, weights, state):
    return over_time(name, "float32", x_TBIF, weights, state, masks)

  I = cell.gates
  weights = 0.4 * noise(D, I, D), noise(I, D)
  state = {part: noise(B, D, seed=i) for i, part in enumerate(cell.state)}
  args = noise(T, B, I, D), weights, state
  weigh = jax.tree.map(lambda x: noise(*x.shape, seed=9), jax.eval_shape(plain, *args))

  def values_and_grads(function):
    def loss(*args):
      return sum(
        jnp.sum(x * y)
        for x, y in zip(*map(jax.tree.leaves, (function(*args), weigh)), strict=True)
      )

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*args)

  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    values_and_grads(scanned),
    values_and_grads(plain),
  )


@each_cell
def test_the_memory_of_decoding_is_constant(name):
  model = FAMILIES[name].model()
  size = lambda slots: sum(
    x.nbytes for x in jax.tree.leaves(model.init_cache(B, slots))
  )
  assert size(1) == size(1_000_000) == 4 * B * 2 * 32 * len(CELLS[name].state)


def test_presets_have_their_published_sizes():
  """Checks the sizes of arXiv:1409.2329 with 10,000 words: 20M and 66M."""
  for preset, millions in {"lstm-medium": 20, "lstm-large": 66}.items():
    model = models.build("rnn", preset=preset, vocab=10_000)
    shapes, _ = abstract(model, tokens(1, 2))
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


def test_mistakes_are_one_line():
  with pytest.raises(ValueError, match="no cell 'elman'; found: lstm, gru"):
    models.build("rnn", vocab=9, cell="elman")
  with pytest.raises(ValueError, match="width=0; wanted 1 or more"):
    models.build("rnn", vocab=9, width=0)
