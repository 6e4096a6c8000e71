"""Metrics of lm-eval's tasks: the value of each item, their aggregate, its error.

They are those of lm_eval 0.4.13 (api/metrics.py, api/task.py); BLEU and chrF are
sacrebleu's.
"""

import math
import re
import string

import numpy as np

from lm.errors import Mistake

# The metrics of each output_type.
METRICS = {
  "multiple_choice": ("acc", "acc_norm", "acc_bytes", "exact_match"),
  "loglikelihood": ("acc", "perplexity"),
  "loglikelihood_rolling": ("bits_per_byte", "byte_perplexity", "word_perplexity"),
  "generate_until": ("exact_match", "bleu", "chrf"),
}
AGGREGATIONS = {
  "perplexity": "perplexity",
  "bits_per_byte": "bits_per_byte",
  "byte_perplexity": "weighted_perplexity",
  "word_perplexity": "weighted_perplexity",
  "bleu": "bleu",
  "chrf": "chrf",
}  # of the others: mean
EXACT = ("regexes_to_ignore", "ignore_case", "ignore_punctuation", "ignore_numbers")
SAMPLES = 1000  # of a bootstrap
TEXT_SAMPLES = 100  # of BLEU and chrF, whose every sample counts n-grams again


def aggregation(metric: str) -> str:
  """Returns the name of the function that makes one number of a metric's items."""
  return AGGREGATIONS.get(metric, "mean")


def of_choices(choices: list[str], gold: int, answers) -> dict:
  """Returns the metrics of a multiple choice, of (log-probability, is greedy) of each.

  The choice is the likeliest one: by the sum over its tokens (acc), by that divided by
  its characters (acc_norm) or by its bytes (acc_bytes); the first of equal ones.
  """
  logprob_C = np.array([logprob for logprob, _ in answers])
  lengths = {
    "acc": np.ones(len(choices)),
    "acc_norm": np.array([len(text) for text in choices]),
    "acc_bytes": np.array([len(text.encode()) for text in choices]),
  }
  chosen = {name: np.argmax(logprob_C / size_C) for name, size_C in lengths.items()}
  values = {name: float(choice == gold) for name, choice in chosen.items()}
  return values | {"exact_match": int(answers[gold][1])}


def of_continuation(logprob: float, is_greedy: bool) -> dict:
  """Returns the metrics of a continuation: whether the model writes it, its log."""
  return {"acc": int(is_greedy), "perplexity": logprob}


def of_text(text: str, logprob: float) -> dict:
  """Returns the metrics of a whole text: its log-probability and its length."""
  words, count = len(re.split(r"\s+", text)), len(text.encode())
  return {
    "bits_per_byte": (logprob, count),
    "byte_perplexity": (logprob, count),
    "word_perplexity": (logprob, words),
  }


def of_writing(reference: str | list[str], text: str, exact: dict) -> dict:
  """Returns the metrics of a written text, given a reference or several of them.

  `exact` holds the arguments of exact_match. BLEU and chrF keep the texts.
  """
  references = [reference] if isinstance(reference, str) else reference
  matches = [_plain(text, **exact) == _plain(r, **exact) for r in references]
  pair = (references, text)
  return {"exact_match": float(any(matches)), "bleu": pair, "chrf": pair}


def _plain(
  text: str,
  regexes_to_ignore=(),
  ignore_case=False,
  ignore_punctuation=False,
  ignore_numbers=False,
) -> str:
  """Returns a text without what exact_match ignores."""
  for pattern in regexes_to_ignore:
    text = re.sub(pattern, "", text)
  text = text.lower() if ignore_case else text
  ignored = string.punctuation * ignore_punctuation + string.digits * ignore_numbers
  return text.translate(str.maketrans("", "", ignored))


def aggregate(name: str, items: list) -> float:
  """Returns the number that an aggregation (see `aggregation`) makes of items."""
  if name in ("bleu", "chrf"):
    return _of_corpus(name, items)
  if name in ("mean", "perplexity"):
    mean = sum(items) / len(items)
    return mean if name == "mean" else math.exp(-mean)
  logprobs, lengths = zip(*items, strict=True)
  mean = sum(logprobs) / sum(lengths)
  return -mean / math.log(2) if name == "bits_per_byte" else math.exp(-mean)


def _of_corpus(name: str, items) -> float:
  """Returns BLEU or chrF of (references, text) pairs, with sacrebleu's defaults."""
  import sacrebleu

  references, texts = zip(*items, strict=True)
  if len({len(several) for several in references}) > 1:
    raise Mistake(f"{name} wants as many references for each item")
  score = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}[name]
  return score(
    list(texts), [list(stream) for stream in zip(*references, strict=True)]
  ).score


def error(name: str, items: list) -> float:
  """Returns the standard error of an aggregate; nan for a single item.

  That of a mean is the usual one; of the others, a bootstrap's over the items.
  """
  count = len(items)
  if count < 2:
    return math.nan
  if name == "mean":
    return float(np.std(items, ddof=1)) / math.sqrt(count)
  rng, values = np.random.default_rng(0), []
  for _ in range(TEXT_SAMPLES if name in ("bleu", "chrf") else SAMPLES):
    drawn = rng.integers(count, size=count)
    values.append(aggregate(name, [items[i] for i in drawn]))
  return float(np.std(values, ddof=1))
