"""Stock lm-eval over HTTP gets what its adapter gets in this process."""

import lm_evals
import pytest
import served
from lm_eval.models.openai_completions import LocalCompletionsAPI

from lm.tasks import harness

tiny_url = pytest.fixture(scope="module")(served.tiny_url)
loaded = pytest.fixture(scope="module")(served.loaded)
PAIRS = [
  ("the quick", " brown"),
  ("the answer is", " A"),
  ("naïve 東", "京é😀"),
  ("x" * 60, " then"),
  ("a line\n", "and the next"),
]


@pytest.fixture(scope="module")
def pair(tiny_url, loaded):
  """Returns (lm-eval's client of the server, our adapter of the same weights)."""
  client = LocalCompletionsAPI(
    base_url=f"{tiny_url}/v1/completions",
    pretrained="tiny",
    max_length=served.CONTEXT,
    batch_size=2,
  )
  assert client.tokenizer_backend == "remote"
  return client, harness.adapter(*loaded)


def test_continuations(pair):
  over_http, here = (lm_evals.answers(m, "loglikelihood", PAIRS) for m in pair)
  for answer, expected in zip(over_http, here, strict=True):
    assert answer[0] == pytest.approx(expected[0], abs=1e-5)
    assert answer[1] == expected[1]


def test_texts(pair):
  requests = [
    (context, {"until": ["\n", "é"], "max_gen_toks": 12, "temperature": 0})
    for context, _ in PAIRS
  ]
  over_http, here = (lm_evals.answers(m, "generate_until", requests) for m in pair)
  assert over_http == here
