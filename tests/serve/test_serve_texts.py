"""Events of the engine to pieces of text: whole characters, stops, tokens of it all."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import tokenizers
from lm.generate.detokenize import Writer
from lm.serve.requests import Begun, Scored, Written
from lm.serve.texts import Text

BYTES = tokenizers.byte_tokenizer()
SMALL = tokenizers.make("bpe-300", ["the quick brown fox, 日本語 and 😀 " * 20])
END = BYTES.eos


def scored(count: int, top: int) -> Scored:
  """Returns numbers that tell the tokens apart."""
  logprobs_T = -np.arange(1, count + 1, dtype=np.float32)
  ids_TO = np.arange(count * top).reshape(count, top) % 256
  return Scored(logprobs_T, ids_TO, -0.5 * np.ones((count, top), np.float32))


def text_of(tokenizer, ids, *, cuts=(), stop=(), reason="length", **options):
  """Returns (text, tokens, finish reasons) of ids that come in parts."""
  options = dict(before=(), ends={END}, stop=stop, scored=True, echo=False) | options
  text, pieces = Text(tokenizer, 0, **options), []
  pieces.append(text.take(Begun(0, scored(max(0, len(options["before"]) - 1), 1))))
  edges = [0, *sorted({min(cut, len(ids)) for cut in cuts}), len(ids)]
  for start, end in itertools.pairwise(edges):
    if text.reason:
      break
    last = reason if end == len(ids) else None
    part = tuple(ids[start:end])
    pieces.append(text.take(Written(part, scored(len(part), 1), last)))
  joined = "".join(piece.text for piece in pieces)
  tokens = [token for piece in pieces for token in piece.tokens]
  return joined, tokens, [p.finish_reason for p in pieces if p.finish_reason]


words = st.text(st.sampled_from("ab é日😀\n"), max_size=12)


@given(words, st.lists(st.integers(0, 40), max_size=5), st.lists(words, max_size=2))
@pytest.mark.parametrize("tokenizer", [BYTES, SMALL])
def test_pieces_are_the_text_however_it_comes(tokenizer, content, cuts, stop):
  ids = tokenizer.encode(content).tolist()
  stop = [text for text in stop if text]
  writer = Writer(tokenizer, stop)
  expected = "".join(writer.feed(id) for id in ids) + writer.close()
  text, tokens, reasons = text_of(tokenizer, ids, cuts=cuts, stop=stop)
  assert text == expected
  assert reasons == (["stop"] if writer.stopped else ["length"])
  assert "".join(token.text for token in tokens) == text
  for token in tokens:
    assert text[token.start : token.start + len(token.text)] == token.text
  if not stop:
    assert [token.id for token in tokens] == ids


@given(st.lists(st.integers(0, 255), max_size=12), st.lists(st.integers(0, 12)))
def test_bytes_that_are_no_text(ids, cuts):
  text, tokens, _ = text_of(BYTES, ids, cuts=cuts)
  assert text == bytes(ids).decode("utf-8", "replace")
  assert "".join(token.text for token in tokens) == text


def test_a_character_belongs_to_its_last_token():
  ids = BYTES.encode("é😀").tolist()
  _, tokens, _ = text_of(BYTES, ids, cuts=range(9))
  assert [token.text for token in tokens] == ["", "é", "", "", "", "😀"]
  assert [token.start for token in tokens] == [0, 0, 1, 1, 1, 1]


def test_a_stop_string_over_several_tokens():
  ids = BYTES.encode("one two").tolist()
  text, tokens, reasons = text_of(BYTES, ids, cuts=range(8), stop=["e t"])
  assert (text, reasons) == ("on", ["stop"])
  assert [token.text for token in tokens] == ["o", "n"]


def test_a_token_that_a_stop_string_cuts():
  ids = [SMALL.id("the"), SMALL.id("Ġ")]
  text, tokens, _ = text_of(SMALL, ids, stop=["e "])
  assert text == "th" and [token.text for token in tokens] == ["th"]


def test_the_token_that_ends_a_text_has_none():
  ids = [*BYTES.encode("ab").tolist(), END]
  text, tokens, reasons = text_of(BYTES, ids, reason="stop")
  assert (text, reasons) == ("ab", ["stop"])
  assert [token.text for token in tokens] == ["a", "b", ""]


def test_an_echo_is_the_prompt_with_its_numbers():
  before = tuple(BYTES.encode("é1").tolist())
  text, tokens, _ = text_of(BYTES, [97], before=before, echo=True)
  assert text == "é1a"
  assert [token.text for token in tokens] == ["", "é", "1", "a"]
  assert [token.start for token in tokens] == [0, 0, 1, 2]
  assert [token.logprob for token in tokens] == [None, -1, -2, -1]


def test_no_number_is_one_that_json_lacks():
  text = Text(BYTES, 0, before=(), ends=set(), stop=(), scored=True, echo=False)
  rows = np.array([[0, 1]]), np.array([[-1, -np.inf]])
  piece = text.take(Written((1,), Scored(np.array([-np.inf]), *rows), "length"))
  assert piece.tokens[0].logprob == -9999
  assert piece.tokens[0].top == ((0, -1), (1, -9999))
