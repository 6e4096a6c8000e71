"""Optimisers that treat weights as matrices, layer by layer: Adafactor and Muon."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from test_optim import INSIDE, by_path, make_tx, tree

from lm.optim.matrices import is_hidden
from lm.optim.muon import orthogonalize


def replay(tx, params, grads):
  """Returns the parameters after one step for each tree of `grads`."""
  state, update = tx.init(params), jax.jit(tx.update)
  for g in grads:
    updates, state = update(jax.tree.map(jnp.asarray, g), state, params)
    params = optax.apply_updates(params, updates)
  return params


def stacked_and_alone(name, plain):
  """Returns (start, stack after three updates, layers that `plain` updated)."""
  rng = np.random.default_rng(0)
  shape = (3, 128, 4, 40)  # LDNH; as a matrix 128 x 160, large enough to be factored
  scales = np.array([1, 10, 100]).reshape(3, 1, 1, 1)
  p = (rng.normal(size=shape) * scales).astype(np.float32)
  grads = (rng.normal(size=(3, *shape)) * scales[::-1]).astype(np.float32)
  tx, _ = make_tx(name, {"w": p}, {"w": "LDNH"})
  after = replay(tx, {"w": jnp.asarray(p)}, [{"w": g} for g in grads])
  alone = [
    plain(p[l].reshape(128, 160), [g[l].reshape(128, 160) for g in grads])
    for l in range(3)
  ]
  return p.reshape(3, 128, 160), after["w"].reshape(3, 128, 160), np.stack(alone)


def test_adafactor_of_stacked_weights_is_optax_layer_by_layer():
  plain = lambda p, grads: replay(optax.adafactor(1e-2), jnp.asarray(p), grads)
  _, actual, expected = stacked_and_alone("adafactor", plain)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_muon_of_stacked_weights_is_torch_layer_by_layer():
  def plain(p, grads):
    weight = torch.nn.Parameter(torch.from_numpy(p.copy()))
    tx = torch.optim.Muon(
      [weight], lr=1e-2, weight_decay=0, adjust_lr_fn="match_rms_adamw"
    )
    for grad in grads:
      weight.grad = torch.from_numpy(grad)
      tx.step()
    return weight.detach().numpy()

  start, actual, expected = stacked_and_alone("muon", plain)
  # torch rounds every product to bfloat16, ours the operands: 2-3 common digits.
  error = np.linalg.norm(actual - expected, axis=(1, 2))
  assert (error < 0.03 * np.linalg.norm(expected - start, axis=(1, 2))).all(), error


@pytest.mark.parametrize("shape", [(40, 24), (2, 24, 40)])
def test_orthogonalize_keeps_the_directions_and_evens_out_their_sizes(shape):
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  u, _, vt = np.linalg.svd(x, full_matrices=False)
  left, right = np.swapaxes(u, -1, -2), np.swapaxes(vt, -1, -2)
  core = left @ np.asarray(orthogonalize(x, jnp.float32)) @ right
  sizes = np.diagonal(core, axis1=-2, axis2=-1)
  assert sizes.min() > 0.6 and sizes.max() < 1.25
  np.testing.assert_allclose(core - sizes[..., None] * np.eye(24), 0, atol=1e-5)
  assert not np.any(orthogonalize(np.zeros(shape, np.float32)))


def test_adafactor_keeps_rows_and_columns_of_every_layer_only():
  like = {"w": jax.ShapeDtypeStruct((3, 128, 4, 40), jnp.float32)}
  tx, _ = make_tx("adafactor", like, {"w": "LDNH"})
  shapes = {x.shape for x in jax.tree.leaves(jax.eval_shape(tx.init, like))}
  assert shapes == {(), (1,), (3, 128), (3, 160)}


def test_muon_takes_only_the_matrices_inside():
  tx, _ = make_tx("muon", tree())
  momenta = {
    k
    for k in by_path(jax.eval_shape(tx.init, tree()))
    if "/muon/" in k and "/trace/" in k
  }
  assert {k.split("/trace/")[1] for k in momenta} == INSIDE


def test_muon_takes_a_matrix_of_any_features_and_no_table():
  """Includes ELECTRA's AD and DA and Mamba-2's DJM; no classes, buckets or taps."""
  hidden = ("LDNH", "LDIF", "LEDF", "AD", "DA", "LDJM")
  tables = ("VD", "VA", "TD", "DC", "UN", "LWNH", "LWJM", "D", "LNH", "LIF", "LJM")
  assert [letters for letters in (*hidden, *tables) if is_hidden(letters)] == [*hidden]
