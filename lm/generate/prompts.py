"""Prompts: text to ids, ids to arrays of a few sizes, and what fits the model."""

import numpy as np

from lm.data.rows.corrupt import start_id
from lm.data.tokenizers import vocabulary
from lm.errors import Mistake

TEXT = (str, bytes)


def encode(tokenizer, prompts) -> list[np.ndarray]:
  """Returns the ids of every prompt.

  `prompts` is a string, its bytes in UTF-8, a sequence of ids, or a list of those. An
  empty prompt becomes the token that begins a document. Raises Mistake when there is no
  prompt, for an empty one if the tokenizer has neither bos nor eos, for bytes that are
  no UTF-8, and for ids outside the vocabulary.
  """
  if not hasattr(prompts, "__len__"):
    raise Mistake(f"prompts={prompts!r}; wanted a string, ids, or a list of those")
  is_single = isinstance(prompts, TEXT) or (
    len(prompts) > 0 and not isinstance(prompts[0], TEXT) and np.ndim(prompts[0]) == 0
  )
  prompts = [prompts] if is_single else prompts
  if not len(prompts):
    raise Mistake("no prompt was given; give a string or a list of strings")
  return [_encode_prompt(tokenizer, prompt) for prompt in prompts]


def _encode_prompt(tokenizer, prompt):
  """The ids of a string, or a sequence of ids as an array."""
  ids = _ids(tokenizer, _text(prompt)) if isinstance(prompt, TEXT) else prompt
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


def _ids(tokenizer, text: str):
  """Returns the ids of a text, which may name languages if the tokenizer has some."""
  if not tokenizer.languages:
    return tokenizer.prompt(text)
  from lm.data.tokenizers import languages

  return languages.prompt(tokenizer, text)


def _text(prompt: str | bytes) -> str:
  """Returns a prompt as text; a flag has a surrogate for a byte that is no UTF-8."""
  try:
    if isinstance(prompt, str):
      prompt.encode()
      return prompt
    return prompt.decode()
  except UnicodeError as error:
    shown = ascii(prompt if len(prompt) < 40 else prompt[:40])
    raise Mistake(
      f"the prompt {shown} is not UTF-8 from {error.start} on; give it as text in UTF-8"
    ) from error


def as_sources(model, tokenizer, prompts) -> tuple[list, list | None, tuple | None]:
  """Returns (prompts, sources, forced) as `decode.start` takes them.

  A model with an encoder reads the prompts as its sources, ended by eos as in training,
  and writes from the token that begins all its targets. Any other model continues the
  prompts and has no sources (None). Raises Mistake for an id without a row, and when
  the language to write decides where to start, and no prompt and no file names it.
  """
  _check_rows(model, tokenizer, prompts)
  if not model.traits.source:
    return prompts, None, None
  from lm.data.tokenizers import languages

  sources, starts, firsts = [], [], []
  for prompt in prompts:
    ids, language = languages.split(tokenizer, prompt)
    if language is None and _needs_language(tokenizer):
      raise Mistake(
        "the model writes several languages; begin the prompt with the code of the one "
        f"to write: {languages.listed(tokenizer)}"
      )
    start, first = _opening(tokenizer, language)
    sources.append(_ended(tokenizer, ids))
    starts.append([start])
    firsts.append(first)
  return starts, sources, (firsts, tokenizer.decoding.get("last"))


def _check_rows(model, tokenizer, prompts):
  """Raises Mistake for an id that neither the model's table nor a soft prompt has."""
  vocab, own = model.config.vocab, vocabulary.front(tokenizer)
  behind = [id for prompt in prompts for id in prompt if id >= vocab and id not in own]
  if behind:
    raise Mistake(
      f"the prompt has token {behind[0]}, and the model has rows for 0 to {vocab - 1}; "
      "leave it out, or take the model's own tokenizer"
    )


def _needs_language(tokenizer) -> bool:
  """Returns True if texts start with their language, which no file names."""
  return bool(tokenizer.languages) and "start" not in tokenizer.decoding


def _opening(tokenizer, language: int | None) -> tuple[int, int | None]:
  """Returns (the id that a decoder reads first, the one that it has to write, if any).

  The language to write is one or the other: the start where files name none, or one
  that is a language (mBART of 25 languages).
  """
  decoding, codes = tokenizer.decoding, tokenizer.languages.values()
  starts = _needs_language(tokenizer) or decoding.get("start") in codes
  first = decoding.get("first")
  if language is None:
    return start_id(tokenizer), first
  return (language, first) if starts else (start_id(tokenizer), language)


def _ended(tokenizer, ids):
  """Returns the ids of a source, which eos ends, or eos and the code of a language."""
  end = tokenizer.eos
  behind = ids[:-1] if len(ids) and ids[-1] in tokenizer.languages.values() else ids
  return ids if len(behind) and behind[-1] == end else np.append(ids, end)


def bucket(size: int, smallest: int = 16) -> int:
  """The next of 16, 24, 32, 48, 64, 96... (with `smallest` for 16)."""
  power = smallest
  while power < size:
    power *= 2
  return power * 3 // 4 if power > smallest and size <= power * 3 // 4 else power


def pad_prompts(prompts):
  """Returns (tokens_RT, lengths_R), numpy, of id sequences, padded to buckets.

  Rows beyond the prompts hold one token. Raises Mistake on an empty prompt.
  """
  lengths = [len(prompt) for prompt in prompts]
  if not lengths or min(lengths) < 1:
    raise Mistake("a prompt needs at least one id to start from, got none")
  R = bucket(len(prompts), 1)
  tokens_RT = np.zeros((R, bucket(max(lengths))), np.int32)
  for row, prompt in enumerate(prompts):
    tokens_RT[row, : len(prompt)] = prompt
  return tokens_RT, np.array(lengths + [1] * (R - len(lengths)), np.int32)


def pad_sources(model, sources, rows: int) -> dict:
  """Returns the source arrays that a model reads, by name; {} for one that reads none.

  Like the prompts, they are padded to buckets, and to `rows` rows by sources of one
  token. Raises Mistake when the model reads sources and there are none, or the other
  way round, and for a source that is empty or longer than the context.
  """
  has_source = model.traits.source
  if has_source != (sources is not None):
    wanted = "a source for each prompt" if has_source else "prompts alone"
    raise Mistake(f"the model reads {wanted}, sources were given: {not has_source}")
  if sources is None:
    return {}
  source_BS, lengths_B = pad_prompts(sources)
  context, longest = model.config.context, max(map(len, sources))
  if context and longest > context:
    raise Mistake(
      f"a source of {longest} tokens does not fit the model's context of {context}; "
      "shorten it"
    )
  if len(source_BS) != rows:
    raise Mistake(f"{len(sources)} sources for another number of prompts")
  real_BS = np.arange(source_BS.shape[1])[None] < lengths_B[:, None]
  return {"source_BS": source_BS, "source_segments_BS": real_BS.astype(np.int32)}


def validate_request(model, prompts, limits, n):
  """Raises Mistake for a request that the model cannot serve.

  That is: the family does not decode, n or a limit (max_tokens of a prompt) is below 1,
  or a prompt and its limit do not fit the context.
  """
  if not model.traits.decodes:
    family = type(model).__module__.rpartition(".")[2]
    raise Mistake(f"family {family!r} writes no text: it has no cache to go on from")
  if n < 1:
    raise Mistake(f"n must be 1 or more samples of each prompt, got {n}")
  if len(limits) and min(limits) < 1:
    raise Mistake(f"max_tokens must be 1 or more, got {min(limits)}")
  context = model.config.context
  for prompt, limit in zip(prompts, limits, strict=True):
    room = context - len(prompt)
    if context and limit > room:
      advice = f"ask for at most {room} tokens or " if room > 0 else ""
      raise Mistake(
        f"a prompt of {len(prompt)} tokens and max_tokens={limit} do not fit the "
        f"model's context of {context}; {advice}shorten the prompt"
      )


def pad_drawable(drawable, vocab: int):
  """Returns what is added to the logits of `vocab` rows, padding included: 0 or -inf.

  `drawable` says of the first rows which ids may be drawn, see
  `tokenizers.vocabulary.drawable`; None allows all, where the model masks its padding
  itself.
  """
  if drawable is None:
    return np.zeros(vocab, np.float32)
  may_V = np.pad(drawable, (0, vocab - len(drawable)))
  return np.where(may_V, 0, -np.inf).astype(np.float32)


def pad_stops(stops):
  """The stop ids as an array of a few sizes, padded with -1, which is no id."""
  stops = np.array(sorted(stops), np.int32)
  return np.pad(stops, (0, bucket(stops.size, 4) - stops.size), constant_values=-1)
