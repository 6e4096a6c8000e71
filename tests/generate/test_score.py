"""Log-probabilities of texts: those of the softmax, each token once, in any batch."""

import json

import jax
import numpy as np
import processes
import pytest
from families import FAMILIES, families_with
from hypothesis import given
from hypothesis import strategies as st

import lm
from lm.data import tokenizers
from lm.generate import score as scoring
from lm.generate import stream
from lm.generate.score import Request

BYTES = tokenizers.byte_tokenizer()
MODEL = lm.model(
  "decoder",
  preset="gpt2-tiny",
  vocab=BYTES.size,
  width=16,
  layers=1,
  heads=2,
  context=16,
)
PARAMS = jax.tree.map(
  lambda x: x * 3,  # far from uniform
  lm.letters.unbox(MODEL.init(jax.random.key(1), np.zeros((1, 2), np.int32))["params"]),
)


@jax.jit
def log_softmax(ids_T):
  """Returns log_p_TV of one row of ids."""
  logits_BTV, _ = MODEL.apply({"params": PARAMS}, ids_T[None])
  return jax.nn.log_softmax(logits_BTV)[0]


def expected(ids, scored):
  """Returns the log-probability of the last `scored` ids, by one forward pass."""
  ids_T = np.zeros(16, np.int32)  # one shape, and a causal model looks at no padding
  ids_T[: len(ids) - 1] = ids[:-1]
  log_p = np.asarray(log_softmax(ids_T))
  rows = range(len(ids) - 1 - scored, len(ids) - 1)
  return sum(log_p[t, ids[t + 1]] for t in rows), all(
    log_p[t].argmax() == ids[t + 1] for t in rows
  )


IDS = st.lists(st.integers(0, 255), min_size=1, max_size=8)


@given(requests=st.lists(st.tuples(IDS, IDS), min_size=1, max_size=9))
def test_it_is_the_sum_of_the_log_softmax_in_any_batch(requests):
  arrays = [Request(np.array(c), np.array(i)) for c, i in requests]
  for (context, ids), score in zip(
    requests, scoring.of_ids(MODEL, PARAMS, arrays), strict=True
  ):
    logprob, greedy = expected([*context, *ids], len(ids))
    assert score.logprob == pytest.approx(logprob, abs=2e-4)
    assert (score.tokens, score.greedy) == (len(ids), greedy)


def test_the_likeliest_continuation_is_greedy():
  [piece] = stream.generate(
    MODEL, PARAMS, BYTES, "ab", max_tokens=5, temperature=0.0, logprobs=True
  )
  [score] = scoring.of_ids(
    MODEL, PARAMS, [Request(BYTES.encode("ab"), np.asarray(piece.ids))]
  )
  assert score.greedy
  assert score.logprob == pytest.approx(float(piece.logprobs.sum()), abs=1e-4)


@given(size=st.integers(1, 60))
def test_each_token_of_a_long_text_is_scored_once(size):
  ids = np.arange(size + 1)
  windows = scoring.windows(MODEL, ids)
  assert np.concatenate([w.ids for w in windows]).tolist() == ids[1:].tolist()
  for window in windows:
    whole = [*window.context, *window.ids]
    assert np.diff(whole).tolist() == [1] * (len(whole) - 1)  # a run of the text
    assert len(whole) <= MODEL.config.context + 1


def test_a_text_is_scored_from_the_beginning_of_a_document():
  texts = ["abc", "de", "abc def ghi jkl mno"]
  scores = lm.score(MODEL, PARAMS, BYTES, texts)
  assert [s.tokens for s in scores] == [3, 2, 19]
  for text, score in zip(texts[:2], scores, strict=False):
    ids = [BYTES.eos, *BYTES.encode(text)]
    assert score.logprob == pytest.approx(expected(ids, len(text))[0], abs=1e-4)


def test_a_context_gives_its_white_space_to_the_continuation():
  first, second = lm.score(MODEL, PARAMS, BYTES, [("ab ", "cd"), ("ab", " cd")])
  assert first == second and first.tokens == 3
  assert first.logprob == pytest.approx(expected(BYTES.encode("ab cd"), 3)[0], abs=1e-4)
  whole, parts = lm.score(MODEL, PARAMS, BYTES, ["cd", ("", "cd")])
  assert whole == parts


@families_with(source=True)
def test_an_encoder_decoder_scores_what_follows_from_a_source(name):
  family = FAMILIES[name]
  model, params = family.model(), family.params()
  source, ids = np.array([5, 6, 7, 1]), np.array([8, 9])
  request = Request(np.array([0]), ids, source)
  one, other = scoring.of_ids(
    model, params, [request, Request(np.array([0]), ids, source[:2])]
  )
  assert one.tokens == other.tokens == 2 and one.logprob != other.logprob
  alone = scoring.of_ids(model, params, [request])[0]
  assert alone.logprob == pytest.approx(one.logprob, abs=1e-4)


@pytest.mark.parametrize(
  "model, texts, message",
  [
    (MODEL, "abc", "wanted a list of texts, got one string"),
    (MODEL, [("a", "")], "0 tokens to score after 1; wanted one of each at least"),
    (MODEL, [("a", "b" * 17)], "17 tokens to score after 1; .* context of 16"),
    (MODEL, [3], "wanted a text, or a context and a continuation, got 3"),
    (
      lm.model("encoder", preset="bert-tiny", vocab=9),
      ["a"],
      "a model that sees both sides",
    ),
    (lm.model("rnn", vocab=9, head="classes"), ["a"], "names classes, gives a text no"),
  ],
)
def test_what_has_no_probability_is_one_line(model, texts, message):
  with pytest.raises(ValueError, match=message):
    lm.score(model, PARAMS, BYTES, texts)


def test_generate_scores_the_lines_of_a_file(tmp_path):
  lm.save(tmp_path / "run", MODEL, PARAMS, BYTES)
  (tmp_path / "a.txt").write_text("abc\n\nde\n")
  (tmp_path / "a.jsonl").write_text(
    '{"text": "abc"}\n{"context": "ab", "continuation": "cd"}\n'
  )
  scores = lm.score(MODEL, PARAMS, BYTES, ["abc", "de", ("ab", "cd")])
  for name, wanted in (("a.txt", scores[:2]), ("a.jsonl", [scores[0], scores[2]])):
    result = processes.run(
      "generate", f"--workdir={tmp_path / 'run'}", f"--score={tmp_path / name}"
    )
    assert result.code == 0, result.err
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["tokens"] for line in lines] == [score.tokens for score in wanted]
    for line, score in zip(lines, wanted, strict=True):
      assert line["logprob"] == pytest.approx(score.logprob, abs=1e-5)
