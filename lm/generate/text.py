"""Strings in, strings out: whole characters only, stop strings never shown, streaming.

    for done in generate(model, params, tokenizer, "Once upon a time", max_tokens=64):
      print(done.text)

`stream` yields the same text in pieces as it comes; `generate` joins them.
"""

import codecs
from dataclasses import dataclass

import numpy as np

from lm.data.rows.corrupt import start_id
from lm.errors import Mistake
from lm.generate import beam, decode
from lm.generate.sample import Sampling

LOOK_EVERY = 16  # tokens between two looks for a stop string


@dataclass(frozen=True)
class Piece:
  """Some more text of one continuation, or all of it."""

  index: int  # prompt * n + sample
  text: str
  ids: np.ndarray  # new ids, up to the one that ended the text
  logprobs: np.ndarray  # one for each id
  finish_reason: str | None  # "stop" or "length" in the last piece, None before
  score: float = 0.0  # of beam search


class Writer:
  """The text of ids that come one by one, as far as it can no longer change.

  Holds back bytes that are not yet a whole character, and whatever may turn out to be
  the beginning of a stop string. The text ends before the stop string that is complete
  first; so it is the same however the ids arrive. `before` are the ids that came
  before, which some tokenizers need to know whether a word begins with a space.
  """

  def __init__(self, tokenizer, stop=(), before=()):
    self._tokenizer, self._stop = tokenizer, tuple(stop)
    self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    self._old, self._new = [int(i) for i in before[-8:]], []
    self._held = ""
    self.stopped = False

  def feed(self, id: int) -> str:
    """The text that this id makes certain."""
    if self._tokenizer.bytes_V is not None:
      return self._more(self._utf8.decode(self._tokenizer.decode_bytes([id])))
    # The bytes of an id depend on the ids around it: decode a few of them together.
    self._new.append(id)
    text = self._pending()
    if text.endswith("\ufffd"):
      return ""
    self._old, self._new = self._new, []
    return self._more(text)

  def _pending(self) -> str:
    known = self._tokenizer.decode(self._old)
    return self._tokenizer.decode(self._old + self._new)[len(known) :]

  def close(self) -> str:
    """The rest: no more ids come, so a half character is U+FFFD."""
    rest = self._pending() if self._new else self._utf8.decode(b"", final=True)
    text = self._more(rest) + self._held
    self._held = ""
    return text

  def _more(self, text: str) -> str:
    if self.stopped:
      return ""
    text = self._held + text
    found = [(text.find(s) + len(s), text.find(s)) for s in self._stop if s in text]
    if found:
      self.stopped, self._held = True, ""
      return text[: min(found)[1]]
    keep = max((_overlap(text, s) for s in self._stop), default=0)
    self._held = text[len(text) - keep :]
    return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
  """How many characters at the end of `text` could begin `stop`."""
  longest = min(len(text), len(stop) - 1)
  return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class _Row:
  """One continuation on its way from ids to pieces."""

  def __init__(self, index, writer, stops):
    self.index, self.read, self.ended = index, 0, False
    self._writer, self._stops = writer, stops

  def piece(self, out: decode.Output):
    """What is new in `out`, or None when that is nothing."""
    start, reason, text = self.read, out.reasons[self.index], ""
    ids_T = out.ids_BT[self.index]
    while self.read < out.lengths_B[self.index] and not self._writer.stopped:
      id = int(ids_T[self.read])
      self.read += 1
      if id not in self._stops:
        text += self._writer.feed(id)
    if reason and not self._writer.stopped:
      text += self._writer.close()
    reason = "stop" if self._writer.stopped else reason
    self.ended = reason is not None
    if not text and self.read == start and not reason:
      return None
    logprobs = out.logprobs_BT[self.index, start : self.read]
    return Piece(self.index, text, ids_T[start : self.read], logprobs, reason)


def stream(
  model,
  params,
  tokenizer,
  prompts,
  *,
  max_tokens=128,
  temperature=1.0,
  top_k=0,
  top_p=1.0,
  min_p=0.0,
  repetition_penalty=1.0,
  n=1,
  seed=0,
  stop=(),
  logprobs=False,
  chunk=8,
):
  """Iterator of Pieces of `n` continuations of each prompt, `chunk` tokens at a time.

  `prompts` is a string, a sequence of ids, or a list of those; an empty one starts a
  new document. Settings as in lm.generate.sample. `stop` is a string or several; the
  text ends before the first of them, or with the end of the document. The joined pieces
  do not depend on `chunk`. All checks come before the first piece: Mistake for a
  setting that makes no sense, or when the context is too short for prompt and
  max_tokens.
  """
  stop = (stop,) if isinstance(stop, str) else tuple(stop)
  if not all(isinstance(s, str) and s for s in stop):
    raise Mistake(f"stop must be strings that are not empty, got {stop!r}")
  if chunk < 1:
    raise Mistake(f"chunk must be 1 or more tokens, got {chunk}")
  prompts, sources = _sources(model, tokenizer, encode(tokenizer, prompts))
  stops = tokenizer.stops
  params = decode.prepare(model, params)
  state = decode.start(
    model,
    params,
    prompts,
    max_tokens=max_tokens,
    sampling=Sampling(temperature, top_k, top_p, min_p, repetition_penalty),
    n=n,
    seed=seed,
    stops=stops,
    logprobs=logprobs,
    sources=sources,
  )
  rows = [
    _Row(i, Writer(tokenizer, stop, prompts[i // n]), stops)
    for i in range(len(prompts) * n)
  ]
  return _pieces(model, params, state, rows, chunk)


def _pieces(model, params, state, rows, chunk):
  until = 1
  while not all(row.ended for row in rows):
    state = decode.advance(model, params, state, until)
    out = decode.read(state, len(rows))
    for row in rows:
      piece = None if row.ended else row.piece(out)
      if piece is not None:
        yield piece
    state = decode.halt(state, [row.ended for row in rows])
    until += chunk


def generate(model, params, tokenizer, prompts, **options) -> list[Piece]:
  """All continuations, whole, `n` of each prompt; the options are those of `stream`."""
  if "chunk" not in options:
    options["chunk"] = LOOK_EVERY if options.get("stop") else 1 << 30
  parts = {}
  for piece in stream(model, params, tokenizer, prompts, **options):
    parts.setdefault(piece.index, []).append(piece)
  return [_join(parts[index]) for index in sorted(parts)]


def _join(pieces) -> Piece:
  return Piece(
    pieces[0].index,
    "".join(p.text for p in pieces),
    np.concatenate([p.ids for p in pieces]),
    np.concatenate([p.logprobs for p in pieces]),
    pieces[-1].finish_reason,
  )


def search(
  model, params, tokenizer, prompts, *, beams, max_tokens=128, length_penalty=1.0, n=1
) -> list[Piece]:
  """The `n` best continuations of each prompt by beam search; see lm.generate.beam."""
  if not 1 <= n <= beams:
    raise Mistake(f"n must be from 1 to the number of beams, {beams}, got {n}")
  prompts, sources = _sources(model, tokenizer, encode(tokenizer, prompts))
  found = beam.generate(
    model,
    decode.prepare(model, params),
    prompts,
    max_tokens=max_tokens,
    beams=beams,
    length_penalty=length_penalty,
    stops=tokenizer.stops,
    sources=sources,
  )
  pieces = []
  for index in range(len(prompts) * n):
    b, w = divmod(index, n)
    ids = found.ids_BWT[b, w, : found.lengths_BW[b, w]]
    reason = "stop" if found.stopped_BW[b, w] else "length"
    writer = Writer(tokenizer, before=prompts[b])
    said = [writer.feed(int(id)) for id in ids if id not in tokenizer.stops]
    text, score = "".join(said) + writer.close(), float(found.scores_BW[b, w])
    pieces.append(Piece(index, text, ids, np.zeros(len(ids)), reason, score))
  return pieces


def encode(tokenizer, prompts) -> list[np.ndarray]:
  """The ids of every prompt; an empty one becomes the token that begins a document."""
  is_one = isinstance(prompts, str) or (
    len(prompts) > 0 and not isinstance(prompts[0], str) and np.ndim(prompts[0]) == 0
  )
  prompts = [prompts] if is_one else prompts
  if not len(prompts):
    raise Mistake("no prompt was given; give a string or a list of strings")
  return [_encode_one(tokenizer, prompt) for prompt in prompts]


def _sources(model, tokenizer, prompts):
  """What a model goes on from, and what it reads besides (None for most).

  One with an encoder reads the prompts, ended by eos as in training, and writes from
  the token that begins all its targets.
  """
  if not model.traits.source:
    return prompts, None
  end = tokenizer.eos
  sources = [p if p[-1] == end else np.append(p, end) for p in prompts]
  return [[start_id(tokenizer)]] * len(prompts), sources


def _encode_one(tokenizer, prompt):
  ids = tokenizer.prompt(prompt) if isinstance(prompt, str) else prompt
  if not len(ids):
    start = tokenizer.eos if tokenizer.bos is None else tokenizer.bos
    if start is None:
      raise Mistake(
        "an empty prompt needs a token to start from, and the tokenizer has neither "
        "bos nor eos; give a prompt"
      )
    ids = [start]
  ids = np.asarray(ids, np.int64)
  if ids.min() < 0 or ids.max() >= tokenizer.size:
    raise Mistake(
      f"ids must be from 0 to {tokenizer.size - 1}, got {ids.min()} to {ids.max()}"
    )
  return ids
