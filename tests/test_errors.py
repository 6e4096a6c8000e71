"""The validators of lm.errors, and the calls of the front door that use them."""

import dataclasses

import pytest

import lm
from lm import errors
from lm.data import tokenizers


@dataclasses.dataclass
class Sizes:
  width: int = 4
  rate: float = 0.5


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(width=0), "width=0; wanted 1 or more"),
    (dict(width=2.0), "width=2.0; wanted a whole number"),
    (dict(width="4"), "width='4'; wanted a whole number"),
    (dict(rate=0.0), "rate=0.0; wanted more than 0"),
    (dict(rate=float("nan")), "rate=nan; wanted a finite number"),
  ],
)
def test_a_field_out_of_range_is_named(fields, message):
  with pytest.raises(errors.Mistake) as raised:
    errors.positive(Sizes(**fields), "width", "rate")
  assert str(raised.value) == message


def test_a_field_may_be_zero_and_the_error_says_what_that_means():
  errors.not_negative(Sizes(width=0), "width")
  with pytest.raises(errors.Mistake, match=r"^width=-1; wanted 0 \(none\) or more$"):
    errors.not_negative(Sizes(width=-1), "width", zero="none")


def test_a_name_that_does_not_exist_lists_those_that_do():
  assert errors.one_of("fruit", "pear", ("pear", "plum")) == "pear"
  with pytest.raises(errors.Mistake, match=r"^no fruit 'fig'; found: pear, plum$"):
    errors.one_of("fruit", "fig", ("pear", "plum"))
  assert errors.suggestion("layer", ["layers", "width"]) == "did you mean 'layers'?"
  assert (
    errors.suggestion("zzz", ["layers"], otherwise="it has layers") == "it has layers"
  )


MODEL = lm.model("rnn", vocab=256, width=8, layers=1)
BYTES = tokenizers.byte_tokenizer()


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda to: lm.save(to, {}, MODEL, BYTES),
      "lm.save: model is a dict; wanted",
    ),
    (
      lambda to: lm.save(to, MODEL, BYTES, {}),
      "lm.save: params is a .*; wanted a d",
    ),
    (
      lambda to: lm.save(to, MODEL, {}, "bpe"),
      "lm.save: tokenizer is a str; wanted",
    ),
    (lambda to: lm.generate(MODEL, BYTES, {}, "a"), "lm.generate: params is a "),
    (
      lambda to: lm.generate("runs/a", {}, BYTES, "a"),
      "lm.generate: model is a str;",
    ),
    (
      lambda to: lm.fit({}, MODEL, [], num_steps=1),
      "lm.fit: model is a dict; wa",
    ),
    (lambda to: lm.load(3), "3 of type int; wanted a path"),
  ],
)
def test_swapped_arguments_are_named(call, message, tmp_path):
  with pytest.raises(errors.Mistake, match=message):
    call(tmp_path / "model")
  assert not list(tmp_path.iterdir())
