"""Text from a model, in pieces as it comes or whole.

    for piece in stream(model, params, tokenizer, "Once upon a time", max_tokens=64):
      print(piece.text, end="", flush=True)

`stream` yields text in pieces, `generate` joins them, `search` uses beam search.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from lm.data.tokenizers import vocabulary
from lm.errors import Mistake
from lm.generate import decode
from lm.generate.detokenize import Writer
from lm.generate.prompts import as_sources, encode
from lm.generate.sample import Sampling

CHECK_EVERY = 16  # tokens between two searches for a stop string, when not streaming


@dataclass(frozen=True)
class Piece:
  """More text of one continuation, or all of it."""

  index: int  # prompt * n + sample
  text: str
  ids: np.ndarray  # new ids, up to the one that ended the text
  logprobs: np.ndarray  # one for each id; 0 unless requested
  finish_reason: str | None  # "stop" or "length" in the last piece, None before
  score: float = 0.0  # of beam search


def _stops(tokenizer) -> frozenset[int]:
  """Returns the ids that end a text; a chat template names another one."""
  if tokenizer.chat_template is None:
    return tokenizer.stops
  from lm.generate import chat

  return chat.stops(tokenizer)


class _Row:
  """One continuation: the ids that were read, and the text made of them."""

  def __init__(self, index, writer, stops):
    self.index, self.length, self.ended = index, 0, False
    self.slides = False  # the text goes on in another decoding when this one is full
    self._writer, self._stops = writer, stops

  def piece(self, continuations: decode.Continuations) -> Piece | None:
    """The Piece since the last call; None when there is nothing new."""
    start, text = self.length, ""
    reason = continuations.reasons[self.index]
    if reason == "length" and self.slides:
      reason = None
    ids_T = continuations.ids_BT[self.index]
    end = continuations.lengths_B[self.index]
    while self.length < end and not self._writer.stopped:
      id = int(ids_T[self.length])
      self.length += 1
      if id not in self._stops:
        text += self._writer.feed(id)
    if reason and not self._writer.stopped:
      text += self._writer.close()
    reason = "stop" if self._writer.stopped else reason
    self.ended = reason is not None
    if not text and self.length == start and not reason:
      return None
    logprobs = continuations.logprobs_BT[self.index, start : self.length]
    return Piece(self.index, text, ids_T[start : self.length], logprobs, reason)


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
  slides=False,
  chunk=8,
):
  """Returns an iterator of Pieces of `n` continuations of each prompt.

  `prompts` is a string, a sequence of ids, or a list of those; an empty one starts a
  new document. Settings are those of `lm.generate.sample.Sampling`. `stop` is a string
  or several; the text ends before the first of them, or with the end of the document.
  `chunk` is the number of tokens between two rounds of pieces; the joined pieces do not
  depend on it. With `slides` one text may be longer than the context: where that is
  full, the model reads the newest half of it as a new prompt. Raises Mistake, before
  the first piece, for a setting out of range, and when the context is too short for a
  prompt and max_tokens.
  """
  stop = (stop,) if isinstance(stop, str) else tuple(stop)
  if not all(isinstance(s, str) and s for s in stop):
    raise Mistake(f"stop must be strings that are not empty, got {stop!r}")
  if chunk < 1:
    raise Mistake(f"chunk must be 1 or more tokens, got {chunk}")
  prompts, sources, forced = as_sources(model, tokenizer, encode(tokenizer, prompts))
  stops, params = _stops(tokenizer), decode.prepare_params(model, params)
  start = functools.partial(
    decode.start,
    model,
    params,
    sampling=Sampling(temperature, top_k, top_p, min_p, repetition_penalty),
    n=n,
    stops=stops,
    drawable=vocabulary.drawable(tokenizer, model.config.vocab),
    forced=forced,
    logprobs=logprobs,
    sources=sources,
  )
  writers = [Writer(tokenizer, stop, prompt) for prompt in prompts for _ in range(n)]
  rows = [_Row(i, writer, stops) for i, writer in enumerate(writers)]
  pieces = functools.partial(_pieces, model, params, rows, chunk)
  if not (slides and model.config.context):
    return pieces(start(prompts, max_tokens=max_tokens, seed=seed))
  if len(rows) > 1 or sources:
    kind = "sources" if sources else "texts"
    raise Mistake(f"slides=True is for one text, got {len(rows)} {kind}")
  sizes = dict(context=model.config.context, max_tokens=max_tokens, seed=seed)
  sizes["front"] = len(vocabulary.front(tokenizer))
  return _sliding(start, pieces, rows[0], prompts[0], **sizes)


def _pieces(model, params, rows, chunk, slots):
  """Yields the pieces of the rows: first after one token, then every `chunk` tokens."""
  steps, done = 1, False
  while not done:
    slots = decode.advance(model, params, slots, steps)
    continuations = decode.read(slots, len(rows))
    for row in rows:
      piece = None if row.ended else row.piece(continuations)
      if piece is not None:
        yield piece
    done = all(row.ended or continuations.reasons[row.index] for row in rows)
    slots = decode.retire(slots, [row.ended for row in rows])
    steps = chunk


def _sliding(start, pieces, row, prompt, *, seed, context, max_tokens, front):
  """Yields the pieces of one text from several decodings, each within the context.

  Each reads the ids at the `front`, a soft prompt.
  """
  ids_T = np.asarray(prompt)
  for number in itertools.count():
    if len(ids_T) >= context:
      newest_T = ids_T[front:][-max(1, (context - front) // 2) :]
      ids_T = np.append(ids_T[:front], newest_T)
    limit = min(max_tokens, context - len(ids_T))
    max_tokens -= limit
    row.length, row.slides = 0, max_tokens > 0
    # A seed of its own, or the same numbers would be drawn again.
    slots = start([ids_T], max_tokens=limit, seed=(seed + number) % 2**32)
    for piece in pieces(slots):
      ids_T = np.append(ids_T, piece.ids)
      yield piece
    if row.ended:
      return


def generate(model, params, tokenizer, prompts, **options) -> list[Piece]:
  """Returns whole continuations, `n` of each prompt; the options are those of `stream`.

  [piece] = generate(model, params, tokenizer, "Once upon a time", max_tokens=64)
  """
  if "chunk" not in options:
    options["chunk"] = CHECK_EVERY if options.get("stop") else 1 << 30
  parts = {}
  for piece in stream(model, params, tokenizer, prompts, **options):
    parts.setdefault(piece.index, []).append(piece)
  return [_join(parts[index]) for index in sorted(parts)]


def _join(pieces) -> Piece:
  return Piece(
    pieces[0].index,
    "".join(piece.text for piece in pieces),
    np.concatenate([piece.ids for piece in pieces]),
    np.concatenate([piece.logprobs for piece in pieces]),
    pieces[-1].finish_reason,
  )


def search(
  model, params, tokenizer, prompts, *, beams, max_tokens=128, length_penalty=1.0, n=1
) -> list[Piece]:
  """Returns the `n` best continuations of each prompt, best first, by beam search.

  See `lm.generate.beam` for the score and `length_penalty`. Raises Mistake as `stream`
  does, and unless 1 <= n <= beams.
  """
  from lm.generate import beam

  if beams < 1:
    raise Mistake(f"beams must be 1 or more, got {beams}")
  if not 1 <= n <= beams:
    raise Mistake(f"n must be from 1 to the number of beams, {beams}, got {n}")
  prompts = encode(tokenizer, prompts)
  prompts, sources, forced = as_sources(model, tokenizer, prompts)
  stops = _stops(tokenizer)
  hypotheses = beam.generate(
    model,
    decode.prepare_params(model, params),
    prompts,
    max_tokens=max_tokens,
    beams=beams,
    length_penalty=length_penalty,
    stops=stops,
    drawable=vocabulary.drawable(tokenizer, model.config.vocab),
    forced=forced,
    sources=sources,
  )
  pieces = []
  for index in range(len(prompts) * n):
    b, z = divmod(index, n)
    ids = hypotheses.ids_BZT[b, z, : hypotheses.lengths_BZ[b, z]]
    reason = "stop" if hypotheses.stopped_BZ[b, z] else "length"
    writer = Writer(tokenizer, before=prompts[b])
    parts = [writer.feed(int(id)) for id in ids if id not in stops]
    text, score = "".join(parts) + writer.close(), float(hypotheses.scores_BZ[b, z])
    pieces.append(Piece(index, text, ids, np.zeros(len(ids)), reason, score))
  return pieces
