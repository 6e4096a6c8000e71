"""Senseless values: a one-line error that names them, before anything is made."""

import pytest
from families import FAMILIES, VOCAB, families_with

from lm import models
from lm.nn.attention.masks import Mask


@families_with()
def test_no_number_of_a_model_is_negative(name):
  family = FAMILIES[name]
  for field, value in (models.fields(family.model()) | {"vocab": VOCAB}).items():
    if type(value) in (int, float):
      fields = {"vocab": VOCAB} | family.fields | {field: type(value)(-1)}
      with pytest.raises(ValueError, match=rf"^{field}=-1(\.0)?[; ]"):
        models.build(family.name, **fields)


NOT_ZERO = {
  "llama": ("vocab", "context", "width", "layers", "heads", "eps", "theta", "top_k"),
  "bert": ("vocab", "context", "width", "layers", "heads", "eps"),
  "electra": ("vocab", "context", "width", "layers", "heads"),
  "gemma": ("vocab", "context", "layers", "heads", "ff", "eps", "theta", "local_theta"),
  "t5": ("vocab", "width", "layers", "heads", "eps"),
  "lstm": ("vocab", "width", "layers"),
  "seq2seq": ("vocab", "width", "layers"),
  "mamba2": ("vocab", "width", "layers", "heads", "eps", "state", "chunk"),
  "word2vec": ("vocab", "width"),
  "glove": ("vocab", "width"),
}


@pytest.mark.parametrize("name", list(NOT_ZERO))
def test_a_model_has_some_of_everything_it_needs(name):
  family = FAMILIES[name]
  for field in NOT_ZERO[name]:
    fields = {"vocab": VOCAB} | family.fields | {field: 0}
    with pytest.raises(ValueError, match=f"^{field}=0; wanted (1 or )?more"):
      models.build(family.name, **fields)


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(window=-1), r"window=-1; wanted 0 \(all keys\) or more"),
    (dict(heads=2.0), "heads=2.0; wanted a whole number"),
    (dict(layers="2"), "layers='2'; wanted a whole number"),
    (dict(eps=float("nan")), "eps=nan; wanted a finite number"),
    (dict(softcap=float("inf")), "softcap=inf; wanted a finite number"),
  ],
)
def test_what_is_no_such_number_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    FAMILIES["llama"].model(**fields)


def test_no_mask_has_a_window_that_would_show_the_future():
  with pytest.raises(AssertionError):
    Mask(window=-1)
