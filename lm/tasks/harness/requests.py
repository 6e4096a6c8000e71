"""The three kinds of requests of lm-eval, answered by a model of ours.

As lm_eval 0.4.13 defines them (api/model.py, models/huggingface.py), so that stock
lm-eval and our own runner of its tasks (lm.tasks.pack) get the same numbers. Two things
are otherwise than its HFLM has them, where that counts a token wrongly or fails:

  bos is never doubled: a text to be scored whole follows one, not two
  a token that spans the end of a context and all of its continuation is scored, as
  the continuation
"""

import dataclasses
from typing import Any

import numpy as np

from lm.data.rows.corrupt import start_id
from lm.data.tokenizers import vocabulary
from lm.errors import Mistake
from lm.generate import score as scoring
from lm.generate import stream
from lm.generate.prompts import bucket, encode
from lm.generate.score import Request
from lm.log.progress import progress

DEFAULT_TOKENS = 256  # of a continuation that names no limit
TOKENS = 1 << 14  # of prompts and continuations decoded at a time: what caches hold
# Names for the limit of a continuation, the first of them first.
LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings of a continuation, from lm-eval's `generation_kwargs`."""

  stop: tuple[str, ...]
  max_tokens: int
  sampling: tuple[tuple[str, float], ...]  # arguments of lm.generate.sample.Sampling

  @classmethod
  def of(cls, options: dict) -> "Settings":
    """Returns the Settings of options; Mistake for one that has no equal here.

    Without do_sample=True, or a temperature, the likeliest tokens are taken.
    """
    options = dict(options)
    until = options.pop("until", None) or []
    until = [until] if isinstance(until, str) else until
    limits = [options.pop(name) for name in LIMITS if name in options]
    is_drawn = options.pop("do_sample", None)
    sampling = {name: options.pop(name) for name in SAMPLING if name in options}
    if options:
      raise Mistake(
        f"generation_kwargs has {min(options)!r}; wanted until, do_sample, {LIMITS[0]} "
        f"or one of {', '.join(SAMPLING)}"
      )
    temperature = float(sampling.get("temperature", 1.0 if is_drawn else 0.0))
    if not temperature or is_drawn is False:
      sampling = {"temperature": 0.0}
    return cls(
      stop=tuple(text for text in until if text),
      max_tokens=int(limits[0]) if limits else DEFAULT_TOKENS,
      sampling=tuple(sorted(sampling.items())),
    )


@dataclasses.dataclass(frozen=True)
class Answerer:
  """A model that answers requests; Mistake for one that predicts no next token."""

  model: Any
  params: Any
  tokenizer: Any

  def __post_init__(self):
    scoring.check_model(self.model)
    if self.tokenizer is None:
      raise Mistake("the model has no tokenizer; text needs one")
    if vocabulary.front(self.tokenizer):
      raise Mistake(
        "the model has a soft prompt, which is for texts of its own task; wanted the "
        "model that it adapts"
      )

  @property
  def prefix(self) -> int:
    """The id that an empty context stands for: bos, or eos where there is none."""
    return int(encode(self.tokenizer, [[]])[0][0])

  @property
  def size(self) -> int:
    """The longest input in tokens; beyond any text for a model without a limit."""
    return self.model.config.context or 2**31 - 1

  def encode(self, text: str, specials: bool | None = None) -> np.ndarray:
    """Returns the ids of a text, in which special tokens count as such.

    With `specials` the tokenizer's own are added (bos); by default they are, unless the
    text begins with the prefix, as that of a chat template may.
    """
    if specials is None:
      specials = not text.startswith(self.tokenizer.text_of_id(self.prefix))
    if specials:
      return self.tokenizer.prompt(text, specials=True)
    return self.tokenizer.marked(text)

  def request(self, context: str, continuation: str) -> Request:
    """Returns the ids of a context and of its continuation.

    White space at the end of the context goes to the continuation, and what is encoded
    is both together, where the model is no encoder-decoder. Raises Mistake for an empty
    continuation.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    if not continuation:
      raise Mistake("a continuation is empty; wanted a text to score")
    prefix = np.array([self.prefix])
    if self.model.traits.source:
      source = np.append(self.tokenizer.marked(stripped), self.tokenizer.eos)
      start = np.array([start_id(self.tokenizer)])
      return Request(start, self.tokenizer.marked(continuation), source[-self.size :])
    if not stripped:
      ids = self.tokenizer.marked(continuation)
      begins = len(ids) > 1 and ids[0] == self.prefix
      return Request(ids[:1], ids[1:]) if begins else Request(prefix, ids)
    ids = self.encode(stripped + continuation)
    end = min(len(self.encode(stripped)), len(ids) - 1)
    return Request(ids[:end], ids[end:]) if end else Request(prefix, ids)

  def of_ids(self, requests: list[Request]) -> list[tuple[float, bool]]:
    """Returns (log-probability, whether greedy decoding writes it) of each request.

    Requests of the same ids are computed once.
    """
    keys = [
      tuple(() if ids is None else tuple(ids) for ids in request)
      for request in requests
    ]
    unique = dict(zip(keys, requests, strict=True))
    watch = lambda batches: progress(batches, unit="batch", label="scored")
    scores = scoring.of_ids(self.model, self.params, [*unique.values()], watch=watch)
    answers = {
      key: (s.logprob, s.greedy) for key, s in zip(unique, scores, strict=True)
    }
    return [answers[key] for key in keys]

  def continuations(self, pairs) -> list[tuple[float, bool]]:
    """Returns (log-probability, is greedy) of each (context, continuation)."""
    return self.of_ids([self.request(*pair) for pair in pairs])

  def texts(self, texts) -> list[float]:
    """Returns the log-probability of each text as a whole, after the prefix.

    What is longer than the model's input is read in windows, see `scoring.windows`.
    """
    if self.model.traits.source:
      raise Mistake(
        "an encoder-decoder gives a text alone no probability; choose tasks without "
        "output_type loglikelihood_rolling"
      )
    requests, owners = [], []
    for number, text in enumerate(texts):
      ids = self.tokenizer.marked(text)
      if not len(ids) or ids[0] != self.prefix:
        ids = np.append(self.prefix, ids)
      parts = scoring.windows(self.model, ids)
      requests += parts
      owners += [number] * len(parts)
    totals = [0.0] * len(texts)
    for number, (logprob, _) in zip(owners, self.of_ids(requests), strict=True):
      totals[number] += logprob
    return totals

  def written(self, requests) -> list[str]:
    """Returns what the model writes for each (context, generation_kwargs).

    Of a context without room for the continuation the beginning is not read. The text
    ends before the first stop string, without the tokens that end it.
    """
    groups, texts = {}, [""] * len(requests)
    for number, (_, options) in enumerate(requests):
      groups.setdefault(Settings.of(options), []).append(number)
    batches = []
    for settings, numbers in groups.items():
      prompts = {i: self._prompt(requests[i][0], settings) for i in numbers}
      batches += [(settings, batch) for batch in _batches(prompts, settings)]
    for settings, prompts in progress(batches, unit="batch", label="written"):
      pieces = stream.generate(
        self.model,
        self.params,
        self.tokenizer,
        [*prompts.values()],
        max_tokens=settings.max_tokens,
        stop=settings.stop,
        **dict(settings.sampling),
      )
      for number, piece in zip(prompts, pieces, strict=True):
        texts[number] = self._text(piece.ids, settings.stop)
    return texts

  def _prompt(self, context: str, settings: Settings) -> np.ndarray:
    """Returns the ids of a context, the newest of them that leave room."""
    ids = self.encode(context)
    room = self.size - (1 if self.model.traits.source else settings.max_tokens)
    if room < 1:
      raise Mistake(
        f"{LIMITS[0]}={settings.max_tokens} leaves no room for a prompt in the model's "
        f"context of {self.size}; lower it"
      )
    return ids[-room:] if len(ids) else np.array([self.prefix])

  def _text(self, ids, stop) -> str:
    """Returns the text of new ids alone, up to a stop string."""
    text = self.tokenizer.decode(ids)
    for end in stop:
      text = text.partition(end)[0]
    return text


def _batches(prompts: dict, settings: Settings) -> list[dict]:
  """Returns prompts, ids by number, in batches of about TOKENS, the longest first."""
  numbers, batches = sorted(prompts, key=lambda i: (-len(prompts[i]), i)), []
  while numbers:
    longest = bucket(len(prompts[numbers[0]]) + settings.max_tokens)
    batch = numbers[: max(1, TOKENS // longest)]
    batches.append({number: prompts[number] for number in batch})
    numbers = numbers[len(batch) :]
  return batches
