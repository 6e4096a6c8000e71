"""Distillation of a language model: a teacher's probabilities of every token.

Hinton et al. 2015, arXiv:1503.02531, section 2; DistilBERT, arXiv:1910.01108.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from lm import trees
from lm.errors import Mistake
from lm.objectives import scoring
from lm.objectives.scoring import add_auxiliary, in_pieces, read
from lm.objectives.softmax import check_mixture, divergence, mixture

# Text as it is, or with masked tokens.
CORRUPTIONS = ("", "masked")


@struct.dataclass
class Taught:
  """A teacher in `TrainState.given`: its parameters, and the model they belong to."""

  model: Any = struct.field(pytree_node=False)
  arrays: dict = struct.field()  # {"embed/table_VD": array}

  @property
  def params(self):
    """The parameters as the model takes them, without the letters in their names."""
    leaves = {name.rpartition("_")[0]: x for name, x in self.arrays.items()}
    return trees.nested(leaves)


def distill(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  temperature=2.0,
  alpha=0.5,
  logits_bytes=2**28,
):
  """Returns alpha T^2 KL(teacher || student) + (1 - alpha) times the cross-entropy.

  Per target, weighted by weights_BT. Both softmaxes of the divergence are taken at the
  temperature T, and T^2 keeps its gradient as large as at T = 1. The teacher reads the
  same rows, without dropout. Sums and `logits_bytes` are those of `next_token`, and
  "divergence", the KL in nats.
  """
  check_mixture(temperature, alpha)
  if "carry" in batch:
    raise Mistake(
      "objective 'distill', and data.rows carries a state, of which the teacher has "
      "none; use 'concat'"
    )
  teacher = given["teacher"]
  teacher_apply, teacher_params = teacher.model.apply, teacher.params
  seen = read(teacher_apply, teacher_params, batch, None, False)
  # One model after the other: their collectives are independent, and virtual devices on
  # few cores would wait for each other in different places.
  params, seen = jax.lax.optimization_barrier((params, seen.x_BTD))
  features = read(apply, params, batch, key, train)
  x_BTD = features.x_BTD
  names = [name for name in (*scoring.SCORED, "bytes_BT") if name in batch]
  arrays = {name: batch[name] for name in names}
  arrays |= {"x_BTD": x_BTD, "teacher_BTD": seen}

  def readout(x_BTD):
    return apply({"params": params}, x_BTD, method="readout")

  def score_piece(piece):
    teacher_BTV = teacher_apply(
      {"params": teacher_params}, piece["teacher_BTD"], method="readout"
    )
    student_BTV, weights_BT = readout(piece["x_BTD"]), piece["weights_BT"]
    kl_BT = divergence(teacher_BTV, student_BTV, temperature)
    kl, sums = jnp.sum(kl_BT * weights_BT), scoring.token_sums(student_BTV, piece)
    weight = sums["loss"][1]
    return mixture(sums, kl, weight, temperature=temperature, alpha=alpha), None

  # Both models' logits are there at once.
  shape = jax.eval_shape(readout, x_BTD).shape
  sums, _ = in_pieces(score_piece, arrays, shape, logits_bytes / 2)
  return add_auxiliary(sums, features.losses) if train else sums


def teaching(**_) -> str:
  """Returns "rows": the teacher reads the same ones."""
  return "rows"


def given(dataset, teacher, **_) -> dict:
  """Returns {"teacher": Taught}; without a dataset, its shapes."""
  if dataset is not None:
    teacher.check_vocabulary(dataset.tokenizer)
  return {"teacher": Taught(teacher.model, teacher.flat(shapes=dataset is None))}
