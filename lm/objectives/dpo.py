"""Preference: the chosen answer of a pair made likelier than the rejected one.

DPO: arXiv:2305.18290, equation 7. IPO: arXiv:2310.12036, equation 17, with means over
the tokens of an answer, as its authors agreed to, so that beta does not depend on its
length. SimPO: arXiv:2405.14734, equation 6. Hinge: SLiC, arXiv:2305.10425.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake, one_of
from lm.objectives.scoring import add_auxiliary, read, target_nats
from lm.objectives.sides import pair_sums, side_sums

LOSSES = ("sigmoid", "hinge", "ipo", "simpo")
SIDES = ("chosen_R", "rejected_R")


def dpo(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  loss="sigmoid",
  beta=0.1,
  gamma=1.0,
  logits_bytes=2**28,
):
  """Returns the loss of pairs of answers, see sides.py for their rows.

  The log-probability of an answer is the sum over its tokens, those with weights_BT;
  d is how much more a model prefers the chosen answer than its reference does, in
  nats, or for "ipo" in nats per token.

    sigmoid   -log sigmoid(beta d)
    hinge     max(0, 1 - beta d)
    ipo       (d - 1 / (2 beta))^2
    simpo     -log sigmoid(beta d - gamma), without a reference, d in nats per token

  `given` has the log-probabilities of the reference by number of the pair, example_BP.
  Sums over pairs: "loss", "accuracy" (d > 0), "margin" (beta d), and of both sides the
  mean log-probability ("chosen_logp") and length ("chosen_tokens"): a margin may grow
  while both fall, and by length alone. `logits_bytes` is that of `next_token`.
  """
  one_of("loss", loss, LOSSES)
  if beta <= 0:
    raise Mistake(f"loss.beta={beta}; wanted more than 0")
  features = read(apply, params, batch, key, train)
  logps = log_probabilities(apply, params, features.x_BTD, batch, logits_bytes)
  lengths = side_sums(batch["weights_BT"], batch)
  number_BP, weights_BP = batch["example_BP"], batch["weights_BP"]
  if loss == "simpo":
    ratios = logps
  else:
    reference = given["train" if train else "heldout"]
    # Where there is no pair, the number is that of a pair that may not be computed.
    known = [jnp.where(weights_BP > 0, reference[s][number_BP], 0) for s in SIDES]
    ratios = [x - y for x, y in zip(logps, known, strict=True)]
  if loss in ("ipo", "simpo"):
    # A pair that does not exist has no tokens.
    ratios = [x / jnp.maximum(n, 1) for x, n in zip(ratios, lengths, strict=True)]
  d_BP = ratios[0] - ratios[1]
  sums = pair_sums(
    weights_BP,
    loss=_losses(d_BP, loss, beta, gamma),
    accuracy=d_BP > 0,
    margin=beta * d_BP,
    chosen_logp=logps[0],
    rejected_logp=logps[1],
    chosen_tokens=lengths[0],
    rejected_tokens=lengths[1],
  )
  return add_auxiliary(sums, features.losses) if train else sums


def _losses(d_BP, loss, beta, gamma):
  if loss == "hinge":
    return jax.nn.relu(1 - beta * d_BP)
  if loss == "ipo":
    return jnp.square(d_BP - 1 / (2 * beta))
  return -jax.nn.log_sigmoid(beta * d_BP - (gamma if loss == "simpo" else 0))


def log_probabilities(apply, params, x_BTD, batch, logits_bytes):
  """Returns (chosen_BP, rejected_BP): log-probabilities of the answers, in nats."""
  nll_BT = target_nats(
    apply, params, x_BTD, batch["targets_BT"], logits_bytes=logits_bytes
  )
  # Not a product: what a target without weight costs may be infinite.
  return side_sums(jnp.where(batch["weights_BT"] > 0, -nll_BT, 0), batch)


def teaching(*, loss="sigmoid", **_) -> str:
  """Returns "rows": the reference reads the pairs; "" for SimPO, which has none."""
  return "" if loss == "simpo" else "rows"


def given(dataset, teacher=None, *, logits_bytes=2**28, **_):
  """Returns {split: the reference's log-probabilities of both answers by pair}.

  They are computed once, without dropout. None for a loss without a reference.
  """
  if teacher is None:
    return None
  if dataset is None:
    shape = jax.ShapeDtypeStruct((1,), np.float32)
    return {split: dict.fromkeys(SIDES, shape) for split in teacher.splits}

  def reference(params, batch):
    features = read(teacher.model.apply, params, batch, None, False)
    x_BTD, apply = features.x_BTD, teacher.model.apply
    sides = log_probabilities(apply, params, x_BTD, batch, logits_bytes)
    return dict(zip(SIDES, sides, strict=True))

  return {split: teacher.of_rows(reference, dataset, split) for split in teacher.splits}


def check(model) -> None:
  """Raises Mistake for a model without probabilities of answers, and for dropout.

  Its noise would be taken for a difference to the reference.
  """
  if model.output != "tokens" or model.traits.sees != "past" or model.traits.source:
    family = type(model).__module__.rpartition(".")[2]
    raise Mistake(
      f"objective 'dpo', and family {family!r} gives an answer to a prompt no "
      "probability; wanted a decoder or a recurrent model with head='tokens'"
    )
  if model.config.run.dropout:
    raise Mistake(
      f"objective 'dpo' compares a model with its reference, and dropout="
      f"{model.config.run.dropout} makes the two differ; wanted --config.model."
      "dropout=0.0"
    )
