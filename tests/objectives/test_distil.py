"""Distillation and consistency: by hand, at their limits, and with pads of garbage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_objectives import B, T, V, apply, assert_close, draw

from lm import models, trees
from lm.errors import Mistake
from lm.letters import unbox
from lm.models import Features
from lm.objectives import check_model, check_rows
from lm.objectives.classify import classify
from lm.objectives.consistency import consistency
from lm.objectives.distill import Taught, distill
from lm.objectives.distill_classes import distill_classes
from lm.objectives.next_token import next_token
from lm.objectives.softmax import divergence


class Teacher:
  """The model of test_objectives, as a Taught has one."""

  apply = staticmethod(apply)


def taught(seed=1):
  params, _ = draw(seed=seed)
  return {"teacher": Taught(Teacher, {f"{n}_XX": x for n, x in params.items()})}, params


def log_softmax(logits):
  return np.asarray(jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)))


def sums_of(params, batch, given, **options):
  return distill(apply, params, batch, None, given=given, train=False, **options)


def test_it_is_a_loop_over_tokens():
  params, batch = draw()
  given, teacher = taught()
  logits = np.tanh(params["embed"])[batch["tokens_BT"]] @ params["out"]
  goals = np.tanh(teacher["embed"])[batch["tokens_BT"]] @ teacher["out"]
  loss = kl = 0.0
  for b in range(B):
    for t in range(T):
      p, q = log_softmax(goals[b, t] / 3), log_softmax(logits[b, t] / 3)
      nll = -log_softmax(logits[b, t])[batch["targets_BT"][b, t]]
      divergence_bt = np.sum(np.exp(p) * (p - q))
      weight = batch["weights_BT"][b, t]
      kl += weight * divergence_bt
      loss += weight * (0.7 * 9 * divergence_bt + 0.3 * nll)
  options = dict(temperature=3.0, alpha=0.7)
  sums = sums_of(params, batch, given, **options)
  assert_close(sums["loss"], (loss, batch["weights_BT"].sum()), 1e-4)
  assert_close(sums["divergence"][0], kl, 1e-4)
  pieces = sums_of(params, batch, given, **options, logits_bytes=4 * B * T * V // 3)
  assert_close(pieces, sums)


def test_its_ends_are_no_divergence_and_the_plain_loss():
  params, batch = draw()
  own = {"teacher": Taught(Teacher, {f"{n}_XX": x for n, x in params.items()})}
  sums = sums_of(params, batch, own, alpha=1.0)
  assert abs(sums["loss"][0]) < 1e-3 and abs(sums["divergence"][0]) < 1e-3
  given, _ = taught()
  plain = next_token(apply, params, batch, None, train=False)
  sums = sums_of(params, batch, given, alpha=0.0)
  assert_close({name: sums[name] for name in plain}, plain)


def test_targets_without_weight_do_not_matter_whatever_the_logits_there():
  params, batch = draw()
  given, _ = taught()
  weighed = batch["weights_BT"] > 0
  changed = batch | {"tokens_BT": np.where(weighed, batch["tokens_BT"], 3)}
  given["teacher"].arrays["out_XX"] *= 1e3  # teachers may be far from sure

  def value_and_grad(batch):
    loss = lambda params: sums_of(params, batch, given)["loss"][0]
    return jax.value_and_grad(loss)(params)

  assert_close(value_and_grad(changed), value_and_grad(batch), 1e-4, 1e-3)


def test_the_gradient_keeps_its_size_at_any_temperature():
  """At high temperatures T^2 KL is half the squared distance of centred logits / V."""
  rng = np.random.default_rng(0)
  goals, logits = rng.normal(size=(2, 5, V)).astype("f4")
  grads = {
    T: jax.grad(lambda x, T=T: jnp.sum(T**2 * divergence(goals, x, T)))(logits)
    for T in (1.0, 2.0, 1e3)
  }
  sizes = [float(jnp.linalg.norm(grad)) for grad in grads.values()]
  assert max(sizes) / min(sizes) < 3
  centred = (logits - goals) - (logits - goals).mean(-1, keepdims=True)
  np.testing.assert_allclose(grads[1e3], centred / V, atol=3e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_padded_vocabulary_stays_finite(temperature):
  rng = np.random.default_rng(0)
  goals, logits = rng.normal(size=(2, 5, V)).astype("f4")
  pad = lambda x: jnp.pad(x, ((0, 0), (0, 7)), constant_values=jnp.finfo("f4").min)

  def total(logits):
    return jnp.sum(divergence(pad(goals), pad(logits), temperature))

  expected = jnp.sum(divergence(goals, logits, temperature))
  value, grad = jax.value_and_grad(total)(logits)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  plain = jax.grad(lambda x: jnp.sum(divergence(goals, x, temperature)))(logits)
  np.testing.assert_allclose(grad, plain, atol=1e-6)


def test_a_teacher_of_another_family_and_width_reads_the_same_rows():
  student = models.build("rnn", vocab=V, width=16, layers=1)
  teacher = models.build("decoder", vocab=V, width=32, layers=1, heads=2)
  _, batch = draw()
  batch["segments_BT"] = np.repeat([[1, 2]], T // 2, 1).repeat(B, 0).astype(np.int32)
  tokens_BT = batch["tokens_BT"]
  params, own = (
    unbox(m.init(jax.random.key(0), tokens_BT)["params"]) for m in (student, teacher)
  )
  arrays = {f"{path}_{'X' * x.ndim}": x for path, x in trees.by_path(own).items()}
  given = {"teacher": Taught(teacher, arrays)}
  inputs = dict(segments_BT=batch["segments_BT"])
  logits = student.apply({"params": params}, tokens_BT, **inputs)[0]
  goals = teacher.apply({"params": own}, tokens_BT, **inputs)[0]
  kl_BT = divergence(goals, logits, 2.0)
  sums = distill(
    student.apply, params, batch, None, given=given, train=False, alpha=1.0
  )
  assert_close(sums["loss"][0], 4 * jnp.sum(kl_BT * batch["weights_BT"]), 1e-4)


def classifier(variables, x, *, method, num=0, **_):
  """Model whose classes of a text are a row of a table, by its number."""
  if method == "features":
    return Features(x[..., None].astype(jnp.float32))
  return variables["params"]["logits"]


def classes(R=4, P=3, C=3, seed=0):
  rng = np.random.default_rng(seed)
  number_BP = np.arange(R * P).reshape(R, P) % 8
  batch = dict(
    tokens_BT=np.zeros((R, 8), np.int32),
    segments_BT=np.ones((R, 8), np.int32),
    label_BP=rng.integers(0, C, (R, P)).astype(np.int32),
    weights_BP=(rng.random((R, P)) < 0.8).astype("f4"),
    example_BP=number_BP.astype(np.int32),
  )
  params = {"logits": jnp.asarray(rng.normal(size=(R, P, C)), jnp.float32)}
  given = {
    "logits_RC": rng.normal(size=(8, C)).astype("f4"),
    "labelled_R": (np.arange(8) % 2).astype("f4"),
  }
  return params, batch, {"heldout": given, "train": given}


def test_of_classes_it_is_a_loop_over_texts():
  params, batch, given = classes()
  kl = nll = 0.0
  for place in np.ndindex(batch["label_BP"].shape):
    number, weight = batch["example_BP"][place], batch["weights_BP"][place]
    goals = given["heldout"]["logits_RC"][number]
    p, q = log_softmax(goals / 2), log_softmax(params["logits"][place] / 2)
    kl += weight * np.sum(np.exp(p) * (p - q))
    labelled = weight * given["heldout"]["labelled_R"][number]
    nll -= labelled * log_softmax(params["logits"][place])[batch["label_BP"][place]]
  sums = distill_classes(classifier, params, batch, None, given=given, train=False)
  assert_close(sums["loss"], (0.5 * 4 * kl + 0.5 * nll, batch["weights_BP"].sum()))
  assert sums["accuracy"][1] < batch["weights_BP"].sum()


def test_an_oracle_teaches_what_labels_do():
  params, batch, _ = classes()
  batch["example_BP"] = np.arange(12).reshape(4, 3)
  oracle = {
    "logits_RC": 200.0 * np.eye(3, dtype="f4")[batch["label_BP"].ravel()],
    "labelled_R": np.zeros(12, "f4"),
  }

  def distilled(params):
    options = dict(temperature=1.0, alpha=1.0, train=False)
    given = {"heldout": oracle}
    return distill_classes(classifier, params, batch, None, given=given, **options)

  def supervised(params):
    return classify(classifier, params, batch, None, train=False)

  assert_close(distilled(params)["loss"], supervised(params)["loss"])
  first, second = (
    jax.grad(lambda p, f=f: f(p)["loss"][0])(params) for f in (distilled, supervised)
  )
  assert_close(first, second)


def test_consistency_is_supervised_where_nothing_is_hidden():
  model = models.build("rnn", vocab=50, width=16, layers=1, head="classes", classes=3)
  _, batch, _ = classes()
  del batch["example_BP"]
  rng = np.random.default_rng(0)
  batch["tokens_BT"] = rng.integers(0, 50, (4, 8)).astype(np.int32)
  batch["segments_BT"] = np.array([[1, 1, 1, 2, 2, 3, 3, 0]] * 4, np.int32)
  params = model.init(jax.random.key(0), batch["tokens_BT"])["params"]
  given = {"blank": np.int32(7), "special_V": np.arange(50) < 5}
  key = jax.random.key(1)

  def sums(**options):
    return consistency(model.apply, unbox(params), batch, key, given=given, **options)

  plain = classify(model.apply, unbox(params), batch, key)
  assert_close(sums(rate=0.0)["loss"], plain["loss"])
  assert_close(sums(train=False), plain)
  hidden = sums(rate=1.0, weight=0.5)
  blank = np.where(batch["tokens_BT"] < 5, batch["tokens_BT"], 7)
  logits = [
    model.apply(
      {"params": unbox(params)},
      model.apply(
        {"params": unbox(params)},
        tokens,
        segments_BT=batch["segments_BT"],
        method="features",
      ).x_BTD,
      batch["segments_BT"],
      num=3,
      method="classify",
    )
    for tokens in (batch["tokens_BT"], blank)
  ]
  kl = jnp.sum(divergence(*logits) * batch["weights_BP"])
  assert_close(hidden["divergence"][0], kl)
  assert_close(hidden["loss"][0], plain["loss"][0] + 0.5 * kl)


def test_rows_and_models_that_go_with_distillation():
  check_rows("distill", {})
  check_rows("distill", {"name": "masked"})
  with pytest.raises(Mistake, match=r"wanted a data.corrupt.name of masked$"):
    check_rows("distill", {"name": "prefix"})
  encoder = models.build("encoder", vocab=50, width=16, layers=1, heads=2)
  check_model("distill", encoder, "masked")
  with pytest.raises(Mistake, match="objective 'distill', and family 'encoder' sees"):
    check_model("distill", encoder)
  params, batch = draw()
  given, _ = taught()
  for options in (dict(temperature=0.0), dict(alpha=1.5)):
    [(name, value)] = options.items()
    with pytest.raises(Mistake, match=f"loss.{name}={value}; wanted"):
      sums_of(params, batch, given, **options)
