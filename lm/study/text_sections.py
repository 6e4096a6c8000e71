"""Sections of a page about a language model: worst and best texts, token by token."""

import numpy as np

from lm import evaluate
from lm.generate import prompts
from lm.generate import score as scoring
from lm.generate.detokenize import Writer
from lm.study import attribute
from lm.study.class_sections import maps
from lm.study.compare import bootstrap
from lm.study.html import coloured, note, section, table

MOST = 200  # texts that are scored, evenly spread
EACH = 5  # worst and best texts
SHOWN = 300  # characters of a text
TOKENS = 200  # with the loss of each
LONGEST = 24  # tokens of the picture of attention
DARK = 8.0  # nats of the darkest colour


def sections(subject) -> list:
  """Returns the sections of a language model, from texts that were held out."""
  records = subject.items.records
  texts = [records[i]["text"] for i in evaluate.spread(len(records), MOST)]
  results = scoring.score(subject.model, subject.params, subject.tokenizer, texts)
  kept = [(text, r) for text, r in zip(texts, results, strict=True) if r.tokens]
  if not kept:
    return []
  kept.sort(key=lambda pair: pair[1].logprob / pair[1].tokens)  # the worst first
  middle = kept[len(kept) // 2][0]
  parts = [
    scores(subject, kept),
    extremes("Worst texts", kept[:EACH]),
    extremes("Best texts", kept[::-1][:EACH]),
    losses(subject, "The worst text, token by token", kept[0][0]),
    losses(subject, "One of the middle, token by token", middle),
    maps(subject, ids_of(subject, middle)[:LONGEST]),
  ]
  return [part for part in parts if part]


def scores(subject, kept):
  """Returns the nats per token of texts, with its interval."""
  nats_R = np.array([-result.logprob for _, result in kept])
  tokens_R = np.array([result.tokens for _, result in kept], float)
  low, high = bootstrap(nats_R, tokens_R)
  mean = float(nats_R.sum() / tokens_R.sum())
  rows = [("nats per token", mean, f"{low:.4f} to {high:.4f}")]
  about = f"On {len(kept):,} of {subject.items.about}, each read from its beginning. "
  line = note(about, subject.items.note)
  return section("Scores", table(("metric", "value", "95 %"), rows), line)


def extremes(title: str, kept):
  """Returns a table of texts with their losses."""
  rows = [
    (-result.logprob / result.tokens, result.tokens, text[:SHOWN])
    for text, result in kept
  ]
  return section(title, table(("nats per token", "tokens", "begins with"), rows))


def ids_of(subject, text: str) -> np.ndarray:
  """Returns what begins a document and the ids of a text, as many as fit."""
  first = prompts.encode(subject.tokenizer, "")[0][:1]
  ids = np.append(first, subject.tokenizer.encode(text))
  return ids[: min(TOKENS, subject.model.config.context or TOKENS)]


def losses(subject, title: str, text: str):
  """Returns a text, each token on a colour as deep as its loss."""
  ids = ids_of(subject, text)
  nats_T = attribute.token_nats(subject.model, subject.params, ids)
  writer = Writer(subject.tokenizer, before=ids[:1])
  pieces = [writer.feed(int(i)) for i in ids[1:]]
  titles = [f"{nats:.2f} nats" for nats in nats_T]
  block = coloured(pieces, -np.minimum(nats_T / DARK, 1), titles)
  line = note(
    f"The redder a token, the less it was expected; {DARK:g} nats are full red."
  )
  return section(title, block, line)
