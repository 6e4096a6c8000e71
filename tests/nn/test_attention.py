"""Attention: backends by name, derivatives of every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import FAMILIES, VOCAB, tokens

from lm.nn.attention import Heads, backends
from lm.nn.attention.masks import Mask
from lm.objectives.softmax import cross_entropy


def test_a_new_file_is_a_new_backend(monkeypatch, tmp_path):
  (tmp_path / "planted.py").write_text(
    "def lacks(q_BTNH, k_BSKH, mask, **options): return ''\n"
    "def attend(q_BTNH, k_BSKH, v_BSKH, mask, **options): return 2 * q_BTNH\n"
  )
  monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
  q_BTNH = np.ones((1, 2, 1, 4), np.float32)
  options = dict(scale=1, softcap=0.0, dtype="float32")
  y_BTNH = backends.attend("planted", *[q_BTNH] * 3, Mask(), **options)
  assert (y_BTNH == 2).all()
  assert Heads(backend="planted").backend == "planted"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_mode_differentiates_a_float32_decoder(name):
  """Covers jvp, linearize and Hessian-vector products, with the loss of training."""
  family, tokens_BT = FAMILIES[name], np.tile(tokens(2, 32), (1, 4))
  model, params = family.model(scan=False, backend="chunked"), family.params()

  def loss(params):
    logits_BTV, _ = model.apply({"params": params}, tokens_BT)
    nll_BT, log_z_BT = cross_entropy(logits_BTV, (tokens_BT + 1) % VOCAB)
    return jnp.mean(nll_BT + 0.1 * log_z_BT**2)

  @jax.jit
  def derivatives(params, along):
    inner = lambda a, b: sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)))
    gradient = jax.grad(loss)
    slope = lambda params: jax.jvp(loss, (params,), (along,))[1]
    forward_over_reverse = jax.jvp(gradient, (params,), (along,))[1]
    reverse_over_forward = jax.grad(slope)(params)
    first = slope(params), jax.linearize(loss, params)[1](along)
    second = inner(forward_over_reverse, along), inner(reverse_over_forward, along)
    return inner(gradient(params), along), first, second

  expected, first, second = derivatives(params, jax.tree.map(jnp.cos, params))
  np.testing.assert_allclose(first, expected, rtol=1e-4)
  np.testing.assert_allclose(*second, rtol=1e-4)
