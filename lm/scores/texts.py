"""Texts: BLEU and chrF by sacrebleu, ROUGE by rouge-score, with intervals.

Scores of a corpus are not means over its sentences: an interval comes from resampling
the counts of every sentence, of which the score of the corpus is made.
"""

import re
import types
from collections import Counter

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from lm.scores.intervals import bootstrap

TOKENIZERS = ("13a", "intl", "zh", "char", "none")  # of BLEU that need no other package
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ORDERS = 6  # of chrF's n-grams
BETA = 2  # recall counts so much more


def translation(hypotheses, references, *, tokenize="13a", intervals=True) -> dict:
  """Returns BLEU and chrF of texts, from 0 to 100; intervals bring the signatures."""
  bleu, chrf = BLEU(tokenize=tokenize, force=True), CHRF()
  metrics = {"bleu": bleu, "chrf": chrf}
  scores = {
    name: metric.corpus_score(hypotheses, [references]).score
    for name, metric in metrics.items()
  }
  if not intervals:
    return scores
  parts_RO = bleu_parts(hypotheses, references, tokenize=tokenize)
  scores["bleu_95"] = bootstrap(parts_RO, bleu_of)
  scores["chrf_95"] = bootstrap(chrf_parts(hypotheses, references), chrf_of)
  for name, metric in metrics.items():
    scores[f"{name}_signature"] = str(metric.get_signature())
  return scores


def bleu_parts(hypotheses, references, *, tokenize="13a") -> np.ndarray:
  """Returns what each pair adds to BLEU: both lengths, 4 counts of hits, 4 of all."""
  metric = BLEU(tokenize=tokenize, force=True, effective_order=True)
  parts = []
  for hypothesis, reference in zip(hypotheses, references, strict=True):
    score = metric.sentence_score(hypothesis, [reference])
    parts.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
  return np.array(parts, np.float64)


def bleu_of(sums_O):
  """Returns BLEU of sums of `bleu_parts` [..., 10], exponentially smoothed.

  Papineni et al. 2002; Chen and Cherry 2014, method 3.
  """
  hypothesis, reference = sums_O[..., 0], sums_O[..., 1]
  hits, totals = sums_O[..., 2:6], sums_O[..., 6:]
  is_zero = (hits == 0) & (totals > 0)
  smoothed = 1 / (2.0 ** np.cumsum(is_zero, axis=-1) * np.maximum(totals, 1))
  precision = np.where(hits > 0, hits / np.maximum(totals, 1), smoothed)
  scored = (hits.sum(-1) > 0) & (totals > 0).all(-1)
  brevity = np.minimum(0, 1 - reference / np.maximum(hypothesis, 1))
  return np.where(scored, 100 * np.exp(brevity + np.log(precision).mean(-1)), 0.0)


def chrf_parts(hypotheses, references) -> np.ndarray:
  """Returns what each pair adds to chrF: for n to 6 n-grams of both, and hits."""
  parts = []
  for pair in zip(hypotheses, references, strict=True):
    texts, counts = ["".join(text.split()) for text in pair], []
    for n in range(1, ORDERS + 1):
      grams = [Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in texts]
      ours, other = (counter.total() for counter in grams)
      counts += [ours if other else 0, other, (grams[0] & grams[1]).total()]
    parts.append(counts)
  return np.array(parts, np.float64)


def chrf_of(sums_O):
  """Returns chrF2 of sums of `chrf_parts` [..., 18] (Popović 2015)."""
  counts = sums_O.reshape(*sums_O.shape[:-1], ORDERS, 3)
  ours, other, hits = (counts[..., i] for i in range(3))
  counted = (ours > 0) & (other > 0)
  number = np.maximum(counted.sum(-1), 1)
  mean = lambda of: (np.where(counted, hits / np.maximum(of, 1), 0)).sum(-1) / number
  precision, recall = mean(ours), mean(other)
  below = BETA**2 * precision + recall
  f = (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1)
  return 100 * f


def summaries(
  hypotheses, references, *, words=None, stemmer=True, intervals=True
) -> dict:
  """Returns the means of F of ROUGE-1, 2, L and Lsum, from 0 to 1, with intervals.

  A line is a sentence of Lsum. rouge-score's own words are runs of a to z and digits in
  lower case, with `stemmer` without their endings; `words(text)` returns others.
  """
  tokenizer = words and types.SimpleNamespace(tokenize=words)
  scorer = RougeScorer(ROUGE, use_stemmer=stemmer, tokenizer=tokenizer)
  pairs = zip(references, hypotheses, strict=True)
  scored = [scorer.score(reference, hypothesis) for reference, hypothesis in pairs]
  scores = {}
  for name in ROUGE:
    f_R = np.array([score[name].fmeasure for score in scored])
    scores[name] = float(f_R.mean())
    if intervals:
      scores[f"{name}_95"] = bootstrap(f_R)
  return scores


def has_other_script(texts) -> bool:
  """Returns True if most letters of the texts are not Latin."""
  letters = "".join(texts)
  latin = len(re.findall(r"[A-Za-z\u00c0-\u024f]", letters))
  return latin < sum(map(str.isalpha, letters)) / 2


def has_unspaced(texts) -> bool:
  """Returns True if most letters of the texts are of scripts without spaces."""
  letters = "".join(texts)
  unspaced = len(re.findall(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]", letters))
  return unspaced > sum(map(str.isalpha, letters)) / 2
