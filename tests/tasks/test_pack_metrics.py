"""Metrics and filters of tasks: those of lm-eval on random texts and numbers."""

import lm_evals  # noqa: F401  offline, before lm_eval is imported
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api import metrics as expected_metrics
from lm_eval.filters.extraction import RegexFilter

from lm.tasks.pack import metrics, task_file

TEXTS = st.text(st.sampled_from("aB1,. é"), max_size=4)
EXACT = st.fixed_dictionaries(
  {},
  optional=dict(
    regexes_to_ignore=st.lists(
      st.sampled_from(["a", r"[1,]", " +"]), min_size=1, max_size=2
    ),
    ignore_case=st.booleans(),
    ignore_punctuation=st.booleans(),
    ignore_numbers=st.booleans(),
  ),
)


@given(text=TEXTS, references=st.lists(TEXTS, min_size=1, max_size=3), exact=EXACT)
def test_exact_match(text, references, exact):
  same = expected_metrics.exact_match_hf_evaluate(
    [text] * len(references), references, **exact
  )["exact_match"]
  actual = metrics.of_writing(references, text, exact)["exact_match"]
  assert actual == float(same > 0)


@given(
  text=st.text("ab1 ", max_size=8),
  pattern=st.sampled_from([r"a+", r"(a)(b)?", r"(1)|(b)", r"b (.*)"]),
  group=st.sampled_from([0, -1]),
)
def test_the_regex_filter(text, pattern, group):
  options = dict(regex_pattern=pattern, group_select=group)
  [[expected]] = RegexFilter(**options).apply([[text]], [{}])
  assert task_file.FILTERS["regex"](text, **options) == expected


def test_standard_errors(monkeypatch):
  monkeypatch.setenv("DISABLE_MULTIPROC", "1")
  rng = np.random.default_rng(1)
  shares = (rng.random(50) < 0.3).astype(float).tolist()
  assert metrics.error("mean", shares) == pytest.approx(
    expected_metrics.mean_stderr(shares)
  )
  logprobs = rng.normal(-3, 1, 60).tolist()
  expected = expected_metrics.bootstrap_stderr(
    expected_metrics.perplexity, logprobs, iters=4000
  )
  assert metrics.error("perplexity", logprobs) == pytest.approx(expected, rel=0.15)
  assert np.isnan(metrics.error("mean", [1.0]))
