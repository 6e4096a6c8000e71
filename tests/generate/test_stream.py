"""Streaming: pieces join to the text, characters stay whole, stop strings hidden."""

import codecs
import functools

import fakes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.data import tokenizers
from lm.errors import Mistake
from lm.generate import stream
from lm.generate.detokenize import Writer

TOKENIZER = fakes.ByteTokenizer()
EOS = TOKENIZER.eos
SCRIPT = fakes.small(fakes.ScriptModel, vocab=TOKENIZER.size)
UNIFORM = fakes.small(fakes.UniformModel, vocab=TOKENIZER.size)


def scripted(data: bytes, prompt="p"):
  """Returns parameters of a model that writes `data` after a prompt of one byte."""
  ids = [*data, EOS]
  return SCRIPT.init((ids + [EOS] * 40)[:40])


def write(ids, stop=()):
  writer, pieces = Writer(TOKENIZER, stop), []
  for id in ids:
    pieces.append(writer.feed(id))
    if writer.stopped:
      break
  if not writer.stopped:
    pieces.append(writer.close())
  return pieces, writer.stopped


BYTES = st.one_of(
  st.binary(max_size=30),
  st.text(max_size=15).map(str.encode),
  st.lists(st.sampled_from([b"a", b"b", b"ab", "é".encode(), b"\xf0\x9f", b"\x80"]))
  .map(b"".join)
  .map(lambda b: b[:30]),
)
STOPS = st.lists(
  st.one_of(st.text("abé", min_size=1, max_size=4), st.text(min_size=1, max_size=3)),
  max_size=3,
)


def first_to_end(whole, stops):
  """Returns (text before the first complete stop string, True if there is one)."""
  for end in range(len(whole) + 1):
    starts = [end - len(s) for s in stops if whole[:end].endswith(s)]
    if starts:
      return whole[: min(starts)], True
  return whole, False


@settings(max_examples=400)
@given(BYTES, STOPS)
def test_pieces_join_to_the_text_before_the_stop_string(data, stops):
  pieces, stopped = write(data, stops)
  expected, stops_early = first_to_end(data.decode(errors="replace"), stops)
  assert ("".join(pieces), stopped) == (expected, stops_early)


@given(st.text(max_size=20))
def test_no_character_is_ever_split(whole):
  pieces, _ = write(whole.encode())
  assert "".join(pieces) == whole
  assert "\ufffd" not in "".join(pieces) or "\ufffd" in whole
  # Every character is shown as soon as its last byte is written.
  decoder = codecs.getincrementaldecoder("utf-8")()
  assert pieces[:-1] == [decoder.decode(bytes([b])) for b in whole.encode()]


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=4))
def test_what_may_begin_a_stop_string_is_held_back_and_nothing_else(whole, stop):
  shown, writer = "", Writer(TOKENIZER, [stop])
  for end, id in enumerate(whole.encode(), 1):
    shown += writer.feed(id)
    if writer.stopped:
      break
    held_lengths = [n for n in range(len(stop)) if whole[:end].endswith(stop[:n])]
    assert shown == whole[: end - max(held_lengths)]


@settings(max_examples=30)
@given(BYTES, STOPS, st.integers(1, 12), st.integers(1, 32))
def test_streamed_is_unstreamed(data, stops, chunk, max_tokens):
  data = data.replace(b"\x00", b"a")
  options = dict(prompts="p", max_tokens=max_tokens, temperature=0, stop=stops)
  [whole] = stream.generate(SCRIPT, scripted(data), TOKENIZER, **options, chunk=64)
  pieces = list(
    stream.stream(SCRIPT, scripted(data), TOKENIZER, **options, chunk=chunk)
  )
  assert "".join(p.text for p in pieces) == whole.text
  assert [p.finish_reason for p in pieces] == [None] * (len(pieces) - 1) + [
    whole.finish_reason
  ]
  np.testing.assert_array_equal(np.concatenate([p.ids for p in pieces]), whole.ids)
  ended = data[:max_tokens].decode(errors="replace")
  expected, stopped = first_to_end(ended, stops)
  assert whole.text == expected
  stopped |= max_tokens > len(data)
  assert whole.finish_reason == ("stop" if stopped else "length")


def test_many_samples_stream_side_by_side():
  options = dict(max_tokens=20, n=3, stop=["a", "b"], logprobs=True, seed=1)
  whole = stream.generate(UNIFORM, UNIFORM.init(), TOKENIZER, ["x", ""], **options)
  assert [p.index for p in whole] == list(range(6))
  assert len({p.text for p in whole[:3]}) == 3
  streamed = {}
  for piece in stream.stream(UNIFORM, UNIFORM.init(), TOKENIZER, ["x", ""], **options):
    streamed.setdefault(piece.index, []).append(piece)
  for i, piece in enumerate(whole):
    assert "".join(p.text for p in streamed[i]) == piece.text
    assert [bool(p.finish_reason) for p in streamed[i]][-1:] == [True]
    assert sum(bool(p.finish_reason) for p in streamed[i]) == 1
    assert len(piece.logprobs) == len(piece.ids) <= 20
    np.testing.assert_allclose(piece.logprobs, -np.log(TOKENIZER.size), rtol=1e-5)


def test_prompts_are_strings_or_ids_and_may_be_empty():
  options = dict(max_tokens=3, temperature=0)
  for prompts in ("p", ["p"], [112], np.array([112]), [[112]], [np.array([112])]):
    [piece] = stream.generate(
      SCRIPT, scripted(b"abcdef"), TOKENIZER, prompts, **options
    )
    assert (piece.text, piece.finish_reason) == ("abc", "length")
  two = stream.generate(SCRIPT, scripted(b"abcdef"), TOKENIZER, ["pq", ""], **options)
  assert [piece.text for piece in two] == ["bcd", "abc"]  # "" is bos alone
  [piece] = stream.generate(SCRIPT, scripted(b"ab"), TOKENIZER, "p", **options)
  assert (piece.text, piece.ids.tolist(), piece.finish_reason) == (
    "ab", [97, 98, EOS], "stop"
  )  # fmt: skip


@pytest.mark.parametrize("options, line", [
  (dict(prompts=[]), "no prompt was given"),
  (dict(prompts=[[1, 259]]), "ids must be from 0 to 258, got 1 to 259"),
  (dict(prompts=[[-1]]), "ids must be from 0 to 258, got -1"),
  (dict(stop=""), "stop must be strings that are not empty"),
  (dict(stop=["a", 3]), "stop must be strings that are not empty"),
  (dict(temperature=-1), "temperature must be 0 (greedy) or more, got -1"),
  (dict(max_tokens=0), "max_tokens must be 1 or more, got 0"),
  (dict(chunk=0), "chunk must be 1 or more"),
  (dict(n=0), "n must be 1 or more"),
  (dict(prompts="p" * 100), "a prompt of 100 tokens and max_tokens=5 do not fit"),
])  # fmt: skip
def test_a_mistake_is_one_line_before_anything_is_made(options, line):
  model = fakes.small(fakes.UniformModel, vocab=TOKENIZER.size, context=100)
  with pytest.raises(ValueError) as error:
    stream.stream(
      model, model.init(), TOKENIZER, **dict(prompts="p", max_tokens=5) | options
    )
  assert str(error.value).startswith(line)
  assert "\n" not in str(error.value)


def test_beams_as_text():
  pieces = stream.search(SCRIPT, scripted(b"hey"), TOKENIZER, ["p"], beams=3, n=2)
  assert (pieces[0].text, pieces[0].finish_reason) == ("hey", "stop")
  assert pieces[0].score > pieces[1].score
  with pytest.raises(ValueError, match="n must be from 1 to the number of beams, 2"):
    stream.search(SCRIPT, scripted(b"hey"), TOKENIZER, "p", beams=2, n=3)


@functools.cache
def foreign():
  """Returns a tokenizer like Llama 2's, whose ids have no bytes of their own."""
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers

  shown = [*"▁abcdefghijklmnopqrstuvwxyz,.", "▁the", "▁an"]
  pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + shown
  vocab = {piece: i for i, piece in enumerate(pieces)}
  inner = Tokenizer(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
  inner.pre_tokenizer = pre_tokenizers.Metaspace()
  inner.decoder = decoders.Sequence([
    decoders.Replace("▁", " "),
    decoders.ByteFallback(),
    decoders.Fuse(),
    decoders.Strip(" ", 1, 0),
  ])  # fmt: skip
  inner.add_special_tokens(["<unk>", "<s>", "</s>"])
  return tokenizers.Tokenizer(inner, {"bos_token": "<s>", "eos_token": "</s>"})


@given(st.text("the an,é☃😀", max_size=25))
def test_a_tokenizer_without_bytes_streams_the_same_text(text):
  tokenizer = foreign()
  assert tokenizer.bytes_V is None
  before, ids = tokenizer.encode("a"), tokenizer.encode("a" + text)[2:]
  writer = Writer(tokenizer, before=before)
  pieces = [writer.feed(int(id)) for id in ids] + [writer.close()]
  whole = tokenizer.decode([*before, *ids])
  assert "".join(pieces) == whole[1:]
  assert not any("\ufffd" in piece for piece in pieces)


def test_without_bytes_a_text_keeps_its_space_behind_the_prompt():
  tokenizer = foreign()
  model = fakes.small(fakes.ScriptModel, vocab=tokenizer.size)
  script = [*tokenizer.prompt("a the ant"), *[tokenizer.eos] * 40]
  options = model, model.init(script[1:41]), tokenizer, "a"
  [sampled] = stream.generate(*options, temperature=0)
  [searched] = stream.search(*options, beams=2)
  assert searched.text == sampled.text == " the ant"


def test_a_text_slides_past_the_context():
  """Where the context is full, its newest half is a prompt like any other."""
  model = fakes.small(vocab=TOKENIZER.size, context=16)
  params = model.init(seed=1)
  options = dict(temperature=0)
  generate = functools.partial(stream.generate, model, params, TOKENIZER, **options)
  prompt = TOKENIZER.encode("prompt")  # 6 ids: room for 10
  ids, expected = list(prompt), []
  for limit in (10, 8, 3):
    [piece] = generate([np.array(ids)], max_tokens=limit)
    expected += piece.ids.tolist()
    ids = (ids + piece.ids.tolist())[-8:]
  for chunk in (1, 5, 100):
    [piece] = generate([prompt], max_tokens=21, slides=True, chunk=chunk)
    assert piece.ids.tolist() == expected
    assert piece.finish_reason == "length"
  [plain] = generate([prompt], max_tokens=10)
  [within] = generate([prompt], max_tokens=10, slides=True)
  assert plain.ids.tolist() == within.ids.tolist() == expected[:10]


def test_one_text_slides_at_a_time():
  model = fakes.small(vocab=TOKENIZER.size, context=16)
  with pytest.raises(Mistake, match="slides=True is for one text, got 2 texts"):
    stream.stream(model, model.init(), TOKENIZER, "a", n=2, slides=True)
