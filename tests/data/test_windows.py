"""Windows of long texts: those of transformers, and every answer whole in one."""

import numpy as np
import pytest
import wordpiece

from lm.data import tokenizers
from lm.data.windows import windows

QUESTION = "Who is red?"


def context(total: int, seed=0) -> str:
  draw = np.random.default_rng(seed)
  return " ".join(draw.choice(["red", "blue", "ab", "c-d", "é"], total))


@pytest.mark.parametrize("total", [1, 5, 20, 60, 150])
def test_windows_are_those_of_transformers(total, tmp_path):
  tokenizer, peer = wordpiece.pair(tmp_path, ["red", "blue"])
  seq, overlap = 40, 7
  inputs = peer(
    QUESTION,
    context(total),
    truncation="only_second",
    max_length=seq,
    stride=overlap,
    return_overflowing_tokens=True,
    return_offsets_mapping=True,
  )
  room = seq - (len(peer(QUESTION)["input_ids"]) + 1)
  texts = (QUESTION, context(total))
  own = windows(tokenizer, *texts, seq=seq, stride=room - overlap)
  assert [w.ids.tolist() for w in own] == inputs["input_ids"]
  assert [w.types.tolist() for w in own] == inputs["token_type_ids"]
  for number, window in enumerate(own):
    offsets = inputs["offset_mapping"][number]
    places = range(window.first, window.first + len(window.spans))
    assert [tuple(map(int, x)) for x in window.spans] == [offsets[i] for i in places]
    assert {inputs.sequence_ids(number)[i] for i in places} == {1}


@pytest.mark.parametrize("name", ["wordpiece", "bytes", "bpe-300"])
def test_an_answer_anywhere_is_whole_in_a_window(name, tmp_path):
  text = context(90)
  if name == "wordpiece":
    tokenizer, _ = wordpiece.pair(tmp_path, ["red", "blue"])
  else:
    tokenizer = tokenizers.make(name, [text] * 9)
  own = windows(tokenizer, QUESTION, text, seq=64, stride=10)
  assert len(own) > 2
  starts = [0, *(i + 1 for i, x in enumerate(text) if x == " ")]
  for begin in starts:
    end = text.find(" ", begin + 6)
    end = len(text) if end < 0 else end
    read = set()
    for window in own:
      first, last = window.places(begin, end)
      if (first, last) != (0, 0):
        a, b = (
          window.spans[first - window.first, 0],
          window.spans[last - window.first, 1],
        )
        read.add(text[a:b].strip())
        assert window.ids[0] == own[0].ids[0]
    assert read == {text[begin:end]}


def test_each_token_is_best_in_the_window_with_the_most_around_it():
  tokenizer = tokenizers.byte_tokenizer()
  own = windows(tokenizer, "q", "x" * 30, seq=22, stride=8)
  parts = [(0, 20), (8, 20), (16, 14)]
  assert [len(window.spans) for window in own] == [size for _, size in parts]
  for token in range(30):
    # BERT's rule: min(left, right) + 0.01 * length, the first where they are equal.
    scores = [
      min(token - start, start + size - 1 - token) + 0.01 * size
      if start <= token < start + size
      else -1
      for start, size in parts
    ]
    for number, (start, size) in enumerate(parts):
      if start <= token < start + size:
        is_best = bool(own[number].is_best[token - start])
        assert is_best == (number == int(np.argmax(scores)))


def test_a_question_without_end_is_cut_and_one_that_leaves_no_room_refused():
  tokenizer = tokenizers.byte_tokenizer()
  [window] = windows(tokenizer, "q" * 500, "abc", seq=128, stride=9)
  assert window.first == 64 + 1
  with pytest.raises(ValueError, match="seq=32 has no room for a context behind"):
    windows(tokenizer, "q" * 500, "abc", seq=32, stride=9)
