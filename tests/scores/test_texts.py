"""Scores of texts: equal to sacrebleu and rouge-score, and to nltk's dictionary."""

import random

import numpy as np
import pytest
from nltk.translate import AlignedSent, IBMModel1
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from lm.data import overlap
from lm.scores import baselines, texts

WORDS = ["the", "cat", "cats", "sat", "on", "a", "mat", ".", "été", "我喜欢猫", "10,5"]
WORDS += ["running\nfast", "runs", "don't", ""]


def corpora(seed):
  """Returns (hypotheses, references) of random words, of which some are shared."""
  draw = random.Random(seed)
  size = draw.randrange(1, 6)
  text = lambda: " ".join(draw.choices(WORDS, k=draw.randrange(9)))
  references = [text() for _ in range(size)]
  return [draw.choice([r, text(), r[:7]]) for r in references], references


@pytest.mark.parametrize("tokenize", texts.TOKENIZERS)
def test_bleu_of_sums_is_sacrebleu(tokenize):
  for seed in range(200):
    hypotheses, references = corpora(seed)
    expected = BLEU(tokenize=tokenize, force=True).corpus_score(
      hypotheses, [references]
    )
    parts_RO = texts.bleu_parts(hypotheses, references, tokenize=tokenize)
    assert texts.bleu_of(parts_RO.sum(0)) == pytest.approx(expected.score, abs=1e-9)
    assert parts_RO.sum(0).tolist() == [
      expected.sys_len,
      expected.ref_len,
      *expected.counts,
      *expected.totals,
    ]


def test_chrf_of_sums_is_sacrebleu():
  for seed in range(200):
    hypotheses, references = corpora(seed)
    expected = CHRF().corpus_score(hypotheses, [references]).score
    parts_RO = texts.chrf_parts(hypotheses, references)
    assert texts.chrf_of(parts_RO.sum(0)) == pytest.approx(expected, abs=1e-9)
    assert texts.chrf_of(np.stack([parts_RO.sum(0)] * 2)).shape == (2,)


def test_a_translation_has_the_published_numbers_with_signatures():
  hypotheses = ["the cat sat on the mat", "a quick brown fox jumped"]
  references = ["the cat is on the mat", "the quick brown fox jumps"]
  scores = texts.translation(hypotheses, references)
  assert scores["bleu"] == pytest.approx(32.778508, abs=1e-6)
  assert scores["chrf"] == pytest.approx(73.448501, abs=1e-6)
  for name in ("bleu", "chrf"):
    low, high = scores[f"{name}_95"]
    assert low <= scores[name] <= high
  form = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
  assert scores["bleu_signature"].startswith(form)
  form = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:"
  assert scores["chrf_signature"].startswith(form)
  chinese = texts.translation(
    ["我喜欢猫"], ["我喜欢狗"], tokenize="zh", intervals=False
  )
  assert chinese["bleu"] == pytest.approx(59.460356, abs=1e-6)
  assert set(chinese) == {"bleu", "chrf"}


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_is_the_mean_of_rouge_scores(stemmer):
  scorer = RougeScorer(list(texts.ROUGE), use_stemmer=stemmer)
  for seed in range(200):
    hypotheses, references = corpora(seed)
    scores = texts.summaries(hypotheses, references, stemmer=stemmer, intervals=False)
    scored = [scorer.score(r, h) for h, r in zip(hypotheses, references, strict=True)]
    for name in texts.ROUGE:
      expected = np.mean([score[name].fmeasure for score in scored])
      assert scores[name] == pytest.approx(expected, abs=1e-12)


def test_a_summary_has_the_published_numbers():
  target = "The cats were running.\nDogs sleep in the house."
  prediction = "A cat was running fast.\nThe dogs slept in the house."
  for stemmer, expected in (
    (False, (0.6, 0.222222, 0.5, 0.6)),
    (True, (0.7, 0.222222, 0.6, 0.7)),
  ):
    scores = texts.summaries([prediction], [target], stemmer=stemmer)
    assert [scores[x] for x in texts.ROUGE] == pytest.approx(expected, abs=1e-6)
    assert scores["rouge1_95"] == (scores["rouge1"], scores["rouge1"])


def test_words_of_other_scripts_count_where_they_are_wanted():
  pair = ["我喜欢猫"], ["我喜欢狗"]
  assert texts.summaries(*pair)["rouge1"] == 0
  assert texts.summaries(*pair, words=overlap.words)["rouge1"] == 0.75


def test_scripts_are_told_apart():
  assert texts.has_other_script(["Привет, мир"]) and texts.has_unspaced(["我喜欢猫 A"])
  assert not texts.has_other_script(["Où est-il ? 12345678"])
  assert not texts.has_unspaced(["Привет, мир"])


def test_the_dictionary_is_ibm_model_1():
  """In targets without repeated words, which nltk counts once."""
  draw = random.Random(0)
  pairs = [
    (" ".join(draw.choices("abcdef", k=4)), " ".join(draw.sample("uvwxyz", k=5)))
    for _ in range(30)
  ]
  dictionary = baselines.Dictionary(pairs, rounds=4)
  expected = IBMModel1([AlignedSent(t.split(), s.split()) for s, t in pairs], 4)
  for target, chances in expected.translation_table.items():
    for source, chance in chances.items():
      assert dictionary.chance(source, target) == pytest.approx(chance, abs=1e-9)
  for source in "abcdef":
    best = dictionary.translate(source)
    assert dictionary.chance(source, best) == max(
      dictionary.chance(source, target) for target in "uvwxyz"
    )
  assert dictionary.translate("g, a").split()[:2] == ["g", ","]


def test_a_lead_is_the_first_sentences_and_words():
  text = "One is 1.5. Two!\nThree"
  assert baselines.lead(text, sentences=1) == "One is 1.5."
  assert baselines.lead(text, sentences=3) == "One is 1.5.\nTwo!\nThree"
  assert baselines.lead("一。二。", sentences=1) == "一。"
  assert baselines.first_words(text, 2) == "One is"
