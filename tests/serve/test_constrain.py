"""Constraints: what they allow is what Python's own parsers take."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import tokenizers
from lm.errors import Mistake
from lm.serve.constrain import Grammars

BYTES = tokenizers.byte_tokenizer()
SMALL = tokenizers.make("bpe-300", ["the quick brown fox, 日本語 and 😀 " * 20])
SCHEMA = {
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 5},
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "tags": {"type": "array", "items": {"enum": ["a", "é"]}, "maxItems": 2},
  },
  "required": ["name", "age"],
  "additionalProperties": False,
}


def walk(constraint, tokenizer, seed: int) -> str:
  """Returns a text of tokens drawn at random from those that are allowed."""
  draw, ids = np.random.default_rng(seed), []
  for _ in range(300):
    allowed_V = constraint.allowed()
    assert allowed_V.shape == (tokenizer.size,) and allowed_V.any()
    id = int(draw.choice(np.flatnonzero(allowed_V)))
    constraint.advance(id)
    if id == tokenizer.eos:
      assert np.flatnonzero(constraint.allowed()).tolist() == [tokenizer.eos]
      return tokenizer.decode_bytes(ids).decode()
    ids.append(id)
  raise AssertionError("no end")


@pytest.fixture(scope="module", params=[BYTES, SMALL], ids=["bytes", "bpe"])
def pair(request):
  tokenizer = request.param
  return tokenizer, Grammars(tokenizer, tokenizer.stops)


@given(seed=st.integers(0, 2**32))
def test_a_schema(pair, seed):
  tokenizer, grammars = pair
  value = json.loads(walk(grammars.json(json.dumps(SCHEMA))(), tokenizer, seed))
  assert set(value) - {"tags"} == {"name", "age"}
  assert isinstance(value["name"], str) and len(value["name"]) <= 5
  assert isinstance(value["age"], int) and 0 <= value["age"] <= 120
  assert set(value.get("tags", [])) <= {"a", "é"}


@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("pattern", [r"(日本|😀){1,3}", r"[a-c]{2,4}\.[0-9]+?", "x?"])
def test_a_pattern(pair, pattern, seed):
  tokenizer, grammars = pair
  assert re.fullmatch(pattern, walk(grammars.regex(pattern)(), tokenizer, seed))


def test_each_text_has_a_state_of_its_own(pair):
  tokenizer, grammars = pair
  make = grammars.regex("ab")
  first, second = make(), make()
  first.advance(tokenizer.id("a"))
  assert np.flatnonzero(first.allowed()).tolist() == [tokenizer.id("b")]
  assert tokenizer.id("a") in np.flatnonzero(second.allowed())


def test_what_is_no_form(pair):
  _, grammars = pair
  with pytest.raises(Mistake, match="the form cannot be built: "):
    grammars.regex("(")
  with pytest.raises(Mistake, match="the form cannot be built: "):
    grammars.json('{"type": "no such type"}')
  with pytest.raises(Mistake, match="the JSON schema cannot be read: "):
    grammars.json("[")
  with pytest.raises(Mistake, match="no token that ends a text"):
    Grammars(BYTES, frozenset())


def test_a_token_that_is_not_allowed(pair):
  tokenizer, grammars = pair
  constraint = grammars.regex("a+")()
  with pytest.raises(Mistake, match="the form cannot go on: "):
    constraint.advance(tokenizer.id("b"))
