"""Requests of lm-eval that its own model has no answer to, and settings."""

import importlib.util

import pytest
from test_harness import BYTES, CONTEXT, model_of

import lm
from lm.data import tokenizers
from lm.tasks import harness
from lm.tasks.harness.requests import Answerer, Settings


def test_a_token_across_the_seam_is_the_continuation():
  tokenizer = tokenizers.make("bpe-260", ["ab ab abab ab"] * 50)
  assert len(tokenizer.encode("ab")) == 1
  answerer = Answerer(*model_of(tokenizer), tokenizer)
  for context, ids in (("a", "ab"), ("x a", " ab")):
    request = answerer.request(context, "b")
    assert tokenizer.decode(request.ids) == ids
    assert len(request.context) == len(request.ids) == 1
  # Cut where the context alone would end, when more than that follows.
  request = answerer.request("a", "b a")
  assert tokenizer.decode(request.context) == "ab"


def test_an_answer_does_not_depend_on_the_other_requests():
  answerer = Answerer(*model_of(BYTES), BYTES)
  pairs = [("a b", f" {number}") for number in range(9)]
  scores = answerer.continuations([*pairs, pairs[0]])
  assert scores[0] == scores[9]
  assert answerer.continuations(pairs[::-1]) == scores[8::-1]


@pytest.mark.parametrize(
  "options, expected",
  [
    ({}, ((), 256, {"temperature": 0.0})),
    (
      {"max_tokens": 2, "max_gen_toks": 1, "until": "a"},
      (("a",), 1, {"temperature": 0.0}),
    ),
    ({"do_sample": True, "top_k": 3}, ((), 256, {"top_k": 3})),
    ({"temperature": 0.5}, ((), 256, {"temperature": 0.5})),
    ({"do_sample": False, "temperature": 0.5}, ((), 256, {"temperature": 0.0})),
  ],
)
def test_settings(options, expected):
  settings = Settings.of(options)
  assert (settings.stop, settings.max_tokens, dict(settings.sampling)) == expected


def test_what_it_refuses(monkeypatch):
  answerer = Answerer(*model_of(BYTES), BYTES)
  with pytest.raises(ValueError, match="33 tokens to score after 1; wanted"):
    answerer.continuations([("a", "b" * (CONTEXT + 1))])
  with pytest.raises(ValueError, match="a continuation is empty"):
    answerer.request("a", "")
  with pytest.raises(ValueError, match="max_gen_toks=256 leaves no room for a prompt"):
    answerer.written([("a", {})])
  with pytest.raises(ValueError, match="generation_kwargs has 'num_beams'; wanted unt"):
    answerer.written([("a", {"num_beams": 4})])
  with pytest.raises(ValueError, match="no chat template; leave out apply_chat_templ"):
    harness.adapter(*model_of(BYTES), BYTES).chat_template(True)
  encoder = lm.model("encoder", preset="bert-tiny", vocab=9)
  with pytest.raises(ValueError, match="a model that sees both sides of a token"):
    harness.adapter(encoder, {}, BYTES)
  spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda n: None if n == "lm_eval" else spec(n)
  )
  with pytest.raises(
    ValueError, match=r"not installed; \.venv/bin/python -m pip instal"
  ):
    harness.adapter(*model_of(BYTES), BYTES)
