import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lm import lookup, optim, trees
from lm.letters import make_mesh, shardings, state_dims

LETTERS = {
  "embed": {"table": "VD"},
  "blocks": {
    "attention": {"q": "LDNH", "q_bias": "LNH", "o": "LNHD"},
    "mlp": {"up": "LDF", "down": "LFD"},
    "norm": {"scale": "LD"},
  },
  "norm": {"scale": "D"},
}
SIZES = dict(L=2, D=8, N=2, H=4, F=16, V=24)
NAMES = sorted(lookup.functions("lm.optim"))
INSIDE = {f"blocks/{k}" for k in ("attention/q", "attention/o", "mlp/up", "mlp/down")}
MATRICES = {"embed/table"} | INSIDE
NORM_ONLY = (("norm/.*", 1.0), (".*", 0.0))


def tree(sizes=SIZES, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  draw = lambda name: jnp.asarray(rng.normal(size=[sizes[x] for x in name]), dtype)
  return jax.tree.map(draw, LETTERS)


def make_tx(name="adamw", params=None, letters=LETTERS, **kwargs):
  params = tree() if params is None else params
  settings = dict(lr=1e-2, schedule="constant", decay=0.0, clip=0.0) | kwargs
  num_steps = settings.pop("num_steps", 100)
  options = optim.Optim(name, **settings)
  return optim.make(options, num_steps=num_steps, params=params, letters=letters)


def run(tx, params, grads_of, steps):
  def step(carry, _):
    params, state = carry
    updates, state = tx.update(grads_of(params), state, params)
    return (optax.apply_updates(params, updates), state), None

  start = lambda params: (params, tx.init(params))
  return jax.jit(lambda p: jax.lax.scan(step, start(p), length=steps)[0])(params)


def first_update(tx, grads, params):
  """Returns {path: first update}, compiled once."""
  return by_path(jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])(grads, params))


def by_path(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {trees.path_name(path): leaf for path, leaf in leaves}


# -- schedules


def test_warmup_reaches_the_peak_and_loses_no_step():
  for schedule in lookup.functions("lm.optim.schedules").values():
    lr = schedule(0.5, 4, 100, 0.1)
    np.testing.assert_allclose([lr(i) for i in range(4)], [0.125, 0.25, 0.375, 0.5])


def test_schedules_after_the_warmup():
  lr_at = lambda name, step: float(
    lookup.functions("lm.optim.schedules")[name](1.0, 10, 110, 0.1)(step)
  )
  assert lr_at("cosine", 60) == pytest.approx(0.55)
  assert lr_at("cosine", 110) == lr_at("cosine", 500) == pytest.approx(0.1)
  assert lr_at("linear", 10) == 1 and lr_at("linear", 35) == pytest.approx(0.775)
  assert lr_at("linear", 110) == lr_at("linear", 500) == pytest.approx(0.1)
  assert lr_at("wsd", 87) == 1 and lr_at("wsd", 99) == pytest.approx(0.55)
  assert lr_at("wsd", 110) == lr_at("wsd", 500) == pytest.approx(0.1)
  assert lr_at("inverse_sqrt", 39) == pytest.approx(0.5)
  assert lr_at("inverse_sqrt", 10**6) == pytest.approx(0.1)
  assert lr_at("constant", 10**6) == 1


def test_schedule_is_the_rate_of_the_step():
  params = {"a": jnp.zeros(3)}
  tx, lr = make_tx(
    "lion", params, {"a": "D"}, schedule="cosine", warmup=3, num_steps=10
  )
  state = tx.init(params)
  for i in range(5):
    updates, state = tx.update({"a": jnp.ones(3)}, state, params)
    np.testing.assert_allclose(updates["a"], -lr(i), rtol=1e-6)


# -- equal to published implementations


def test_adamw_is_the_paper():
  p = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
  grads = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
  tx, _ = make_tx("adamw", {"w": p}, {"w": "DF"}, decay=0.1)
  params, state = {"w": jnp.asarray(p)}, tx.init({"w": p})
  m = v = 0
  for t, g in enumerate(grads, 1):
    updates, state = tx.update({"w": jnp.asarray(g)}, state, params)
    params = optax.apply_updates(params, updates)
    m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.95**t)
    p = p - 1e-2 * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * p)
    np.testing.assert_allclose(params["w"], p, rtol=1e-5)


def test_lion_is_the_paper():
  p = np.array([[1.0, -2.0]], np.float32)
  grads = np.random.default_rng(0).normal(size=(3, 1, 2)).astype(np.float32)
  tx, _ = make_tx("lion", {"w": p}, {"w": "DF"}, decay=0.1)
  params, state, m = {"w": jnp.asarray(p)}, tx.init({"w": p}), 0
  for g in grads:
    updates, state = tx.update({"w": jnp.asarray(g)}, state, params)
    params = optax.apply_updates(params, updates)
    p = p - 1e-2 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)
    m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(params["w"], p, rtol=1e-6)


# -- the same tests for all optimisers


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_on_a_quadratic(name):
  goal, params = tree(seed=1), tree(seed=2)
  far = lambda p: sum(
    jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), p, goal))
  )
  tx, _ = make_tx(name, lr=0.1, schedule="cosine", warmup=5, num_steps=200, clip=1.0)
  after, _ = run(tx, params, jax.grad(far), 200)
  assert far(after) < 0.1 * far(params)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_stay_and_cost_nothing(name):
  params = tree()
  freeze = (("blocks/attention/.*", False), ("norm/scale", False), (".*", True))
  tx, _ = make_tx(name, params, freeze=freeze, decay=0.1, clip=1.0)
  params["norm"]["scale"] = params["norm"]["scale"].at[0].set(-0.0)
  params["embed"]["table"] = params["embed"]["table"].at[0].set(-0.0)
  grads = lambda p: jax.tree.map(jnp.ones_like, p)
  after, state = run(tx, params, grads, 3)
  trained = {"blocks/attention/q", "blocks/attention/q_bias", "blocks/attention/o"}
  trained |= {"norm/scale"}
  for path, before in by_path(params).items():
    bits = lambda x: np.asarray(x).view(np.int32)
    is_same = np.array_equal(bits(before), bits(by_path(after)[path]))
    assert is_same == (path not in trained), path
  for path, leaf in by_path(state).items():
    sources = [p for p in by_path(params) if path.endswith("/" + p)]
    if leaf.size > 3:
      assert sources and max(sources, key=len) in trained, path


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_do_not_count_in_the_norm(name):
  params, grads = tree(), tree(seed=1)
  loud = grads | {"embed": {"table": grads["embed"]["table"] * 1e6}}
  tx, _ = make_tx(name, params, freeze=(("embed/.*", True), (".*", False)), clip=0.1)
  quiet, _ = run(tx, params, lambda _: grads, 2)
  with_loud, _ = run(tx, params, lambda _: loud, 2)
  jax.tree.map(np.testing.assert_array_equal, quiet, with_loud)


@pytest.mark.parametrize("name", NAMES)
def test_lr_mult_scales_the_update_with_its_decay(name):
  params, grads = tree(), tree(seed=1)
  table = (("embed/.*", 0.25), ("norm/scale", 0.0), (".*", 1.0))
  updates = []
  for mult in (), table:
    tx, _ = make_tx(name, params, lr_mult=mult, decay=0.1)
    updates.append(first_update(tx, grads, params))
  factors = {"embed/table": 0.25, "norm/scale": 0.0}
  for path, u in updates[0].items():
    np.testing.assert_allclose(updates[1][path], factors.get(path, 1) * u, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
  "table, decayed", [((), MATRICES), (NORM_ONLY, {"norm/scale"})]
)
def test_decay_by_rule_and_by_table(name, table, decayed):
  params = tree()
  tx, lr = make_tx(name, params, decay=0.5, decay_mult=table)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates = first_update(tx, zero, params)
  for path, p in by_path(params).items():
    expected = -lr(0) * 0.5 * p if path in decayed else 0 * p
    np.testing.assert_allclose(updates[path], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_dtypes_stay(name, dtype):
  params = tree(dtype=dtype)
  tx, _ = make_tx(name, params, decay=0.1, clip=1.0, lr_mult=((".*", 0.5),))
  before = jax.eval_shape(tx.init, params)
  after, state = jax.eval_shape(lambda p: run(tx, p, lambda g: g, 2), params)
  dtypes = lambda t: [x.dtype for x in jax.tree.leaves(t)]
  assert dtypes(before) == dtypes(state) and dtypes(after) == dtypes(params)


@pytest.mark.parametrize("freeze", [(), (("norm/.*", True), (".*", False))])
@pytest.mark.parametrize("name", NAMES)
def test_state_is_sharded_like_the_parameters(name, freeze):
  params = tree()
  tx, _ = make_tx(name, params, freeze=freeze, clip=1.0, decay=0.1)
  state = jax.eval_shape(tx.init, params)
  dims_of = by_path(state_dims(state, (params, LETTERS)))
  for path, leaf in by_path(state).items():
    assert leaf.size <= 3 or dims_of[path], path
  assert set(dims_of.values()) > {"LDNH", "LNHD", "LDF", "LFD", "VD"}


@pytest.mark.parametrize("name", NAMES)
def test_sharded_steps_equal_one_device(name):
  params, grads = tree(), tree(seed=1)
  tx, _ = make_tx(name, params, clip=1.0, decay=0.1)
  expected, _ = run(tx, params, lambda _: grads, 3)
  mesh = make_mesh(data=2, fsdp=2, tensor=2)
  place = lambda t: jax.device_put(t, shardings(mesh, LETTERS, t))
  with jax.set_mesh(mesh):
    sharded = place(grads)
    actual, _ = run(tx, place(params), lambda _: sharded, 3)
  # Sums in another order may round one of Muon's bfloat16 operands the other way.
  near = dict(rtol=1e-4, atol=1e-4 if name == "muon" else 1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **near), actual, expected)


def test_a_warmup_longer_than_the_run_takes_all_of_it():
  options = dict(lr=1.0, schedule="linear", final=0.0)
  schedule = optim.make_schedule(optim.Optim(warmup=30, **options), 20)
  assert [float(schedule(step)) for step in (1, 9, 19)] == pytest.approx([0.1, 0.5, 1])
  assert schedule(5) == optim.make_schedule(optim.Optim(warmup=20, **options), 20)(5)


# -- mistakes


@pytest.mark.parametrize(
  "kwargs, message",
  [
    (dict(name="adam"), "no 'adam' in lm/optim; found: adafactor, adamw, lion, muon"),
    (
      dict(schedule="cos"),
      "no 'cos' in lm/optim/schedules; found: constant, cosine, inverse_sqrt",
    ),
    (dict(name="adafactor", betas=(0.9, 0.99)), "adafactor has no betas"),
    (dict(final=-5.0), "final=-5.0; wanted a share of lr, 0 to 1"),
    (dict(final=1.5), "final=1.5; wanted a share of lr, 0 to 1"),
    (dict(betas=0.9), "betas=0.9; wanted two numbers"),
    (dict(betas=(0.9,)), r"betas=\(0.9,\); wanted two numbers"),
    (dict(betas=(0.9, 0.95, 1e-8)), "wanted two numbers of 0 or more, less than 1"),
    (dict(betas=(0.9, 1.5)), r"betas=\(0.9, 1.5\); wanted two numbers"),
    (dict(lr=-1.0), "lr=-1.0; wanted 0 or more"),
    (dict(decay=-0.1), "decay=-0.1; wanted 0 or more"),
    (dict(clip=-1.0), "clip=-1.0; wanted 0 or more"),
    (dict(clip=float("nan")), "clip=nan; wanted a finite number"),
    (dict(warmup=-1), "warmup=-1; wanted 0 or more"),
    (dict(accumulate=0), "accumulate=0; wanted 1 or more"),
    (dict(ema=1.0), "ema=1.0; wanted 0 or more, less than 1"),
    (dict(freeze=(("norm/(", True),)), r"freeze: 'norm/\(' is no regex: missing \)"),
    (dict(freeze=((".*", True),)), "freeze leaves no parameter to train"),
    (dict(freeze=("norm/.*",)), r"freeze must hold \(regex, value\) pairs"),
    (
      dict(lr_mult=(("embd/.*", 2.0), (".*", 1.0))),
      "'embd/.*' matches nothing; .*embed",
    ),
    (dict(lr_mult=((".*", 1.0), ("embed/.*", 2.0))), "only matches what rows before"),
    (dict(decay_mult=(("blocks/.*", 1.0),)), "not cover embed/table, norm/scale; add"),
  ],
)
def test_mistakes_are_explained(kwargs, message):
  with pytest.raises(ValueError, match=message):
    make_tx(**{"name": "adamw"} | kwargs)
