"""Distillation of a classifier: a teacher's probabilities of the classes of a text.

Hinton et al. 2015, arXiv:1503.02531, section 2; into small models and with texts that
nobody labelled: arXiv:1903.12136 and 1908.08962.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lm.objectives.classify import class_logits
from lm.objectives.scoring import add_auxiliary, class_sums, read
from lm.objectives.softmax import check_mixture, divergence, mixture

LEAST = np.finfo(np.float32).tiny  # of a probability, so that it has a logarithm


def distill_classes(
  apply,
  params,
  batch,
  key,
  *,
  given=None,
  train=True,
  temperature=2.0,
  alpha=0.5,
):
  """Returns alpha T^2 KL(teacher || student) + (1 - alpha) times the cross-entropy.

  Per text; one without a label has the divergence alone. Both softmaxes are taken at
  the temperature T, and T^2 keeps the gradient as large as at T = 1. `given` has the
  logits of the teacher by number of the text, example_BP, up to a constant, which no
  softmax depends on. Sums: "loss" and "divergence" over texts, "nats_per_text" and
  "accuracy" over those with a label.
  """
  check_mixture(temperature, alpha)
  features = read(apply, params, batch, key, train)
  logits_BPC, label_BP, weights_BP = class_logits(apply, params, features, batch)
  teacher, number_BP = given["train" if train else "heldout"], batch["example_BP"]
  kl_BP = divergence(teacher["logits_RC"][number_BP], logits_BPC, temperature)
  kl, texts = jnp.sum(kl_BP * weights_BP), jnp.sum(weights_BP)
  labelled_BP = weights_BP * teacher["labelled_R"][number_BP]
  sums = class_sums("text", logits_BPC, label_BP, labelled_BP)
  sums = mixture(sums, kl, texts, temperature=temperature, alpha=alpha)
  return add_auxiliary(sums, features.losses) if train else sums


def teaching(**_) -> str:
  """Returns "records": the teacher reads the texts with its own tokenizer."""
  return "records"


def given(dataset, teacher, **_) -> dict:
  """Returns {split: the teacher's logits and which texts have a label} by text.

  They are computed once, without dropout; without a dataset, shapes.
  """
  if dataset is None:
    shape = jax.ShapeDtypeStruct
    arrays = {
      "logits_RC": shape((1, teacher.model.config.task.classes), np.float32),
      "labelled_R": shape((1,), np.float32),
    }
    return dict.fromkeys(teacher.splits, arrays)
  return {split: _arrays(dataset, teacher, split) for split in teacher.splits}


def _arrays(dataset, teacher, split: str) -> dict:
  records, labels = getattr(dataset.splits, split), dataset.task.labels
  chances_RC = np.array(
    [
      [answer["probabilities"][label] for label in labels]
      for answer in teacher.answers(records)
    ]
  )
  labelled_R = np.array(["label" in record for record in records], np.float32)
  logits_RC = np.log(np.maximum(chances_RC, LEAST)).astype(np.float32)
  return {"logits_RC": logits_RC, "labelled_R": labelled_R}
