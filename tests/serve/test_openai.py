"""The official client against a server of a tiny model: the contract of the replies."""

import math

import openai
import pytest
import served

import lm
from lm.generate import decode, stream
from lm.generate.sample import Sampling

MESSAGES = [
  {"role": "system", "content": "Be brief."},
  {"role": "user", "content": "Hi"},
]
SEEDED = dict(temperature=1.0, seed=7, max_tokens=12)
loaded = pytest.fixture(scope="module")(served.loaded)
tiny_url = pytest.fixture(scope="module")(served.tiny_url)
client = pytest.fixture(scope="module")(served.client)


@pytest.fixture(scope="module")
def complete(client):
  """Returns complete(prompt, **options) -> a completion."""
  return lambda prompt, **options: client.completions.create(
    model="tiny", prompt=prompt, **options
  )


def offline(loaded, prompt, **options):
  """Returns the pieces that the library writes."""
  return stream.generate(*loaded, prompt, **options)


def test_models(client):
  [model] = client.models.list()
  assert (model.id, model.object, model.owned_by) == ("tiny", "model", "lm")
  assert model == client.models.retrieve("tiny")
  assert model.lm == {
    "completions": True, "chat": True, "embeddings": True, "task": None
  }  # fmt: skip
  with pytest.raises(openai.NotFoundError) as raised:
    client.models.retrieve("other")
  assert raised.value.code == "model_not_found" and raised.value.param == "model"


@pytest.mark.parametrize("options", [dict(temperature=0, max_tokens=12), SEEDED])
def test_a_text_is_that_of_the_library(complete, loaded, options):
  reply = complete("the quick", **options)
  [piece] = offline(loaded, "the quick", **options)
  [choice] = reply.choices
  assert (choice.text, choice.finish_reason) == (piece.text, piece.finish_reason)
  assert (choice.index, choice.logprobs) == (0, None)
  assert reply.object == "text_completion" and reply.model == "tiny"
  assert reply.id.startswith("cmpl-")
  usage = reply.usage
  assert (usage.prompt_tokens, usage.completion_tokens) == (9, len(piece.ids))
  assert usage.total_tokens == 9 + len(piece.ids)
  assert usage.prompt_tokens_details.cached_tokens >= 0


def test_every_kind_of_prompt(complete, loaded):
  options = dict(temperature=0, max_tokens=6)
  expected = lm.generate(*loaded, ["ab", "the"], **options)
  ids = [[97, 98], [116, 104, 101]]
  for prompt in (["ab", "the"], ids):
    reply = complete(prompt, **options)
    assert [choice.index for choice in reply.choices] == [0, 1]
    assert [choice.text for choice in reply.choices] == expected
    assert reply.usage.prompt_tokens == 5
  assert complete(ids[0], **options).choices[0].text == expected[0]
  [start] = lm.generate(*loaded, "", **options)
  assert complete("", **options).choices[0].text == start


def test_several_texts_of_several_prompts(complete, loaded):
  options = dict(SEEDED, n=3)
  reply = complete(["ab", "the"], **options)
  assert [choice.index for choice in reply.choices] == [0, 1, 2, 3, 4, 5]
  texts = [choice.text for choice in reply.choices]
  assert texts == lm.generate(*loaded, ["ab", "the"], **options)
  assert len(set(texts)) == 6
  assert reply.usage.prompt_tokens == 5  # a prompt is counted once
  assert complete(["ab", "the"], **options).choices == reply.choices
  other = complete("ab", **options | {"seed": 8}).choices
  assert [choice.text for choice in other] != texts[:3]


def test_the_best_of_several_are_the_likeliest(complete, loaded):
  pieces = offline(loaded, "ab", logprobs=True, n=5, **SEEDED)
  mean = {piece.text: piece.logprobs.mean() for piece in pieces}
  best = sorted(mean, key=mean.get, reverse=True)[:2]
  reply = complete("ab", n=2, best_of=5, **SEEDED)
  assert [choice.text for choice in reply.choices] == best
  assert [choice.index for choice in reply.choices] == [0, 1]
  assert reply.usage.completion_tokens == sum(len(piece.ids) for piece in pieces)


@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_is_the_whole(complete, n):
  options = dict(SEEDED, n=n, logprobs=2)
  whole = complete(["ab", "é"], **options)
  chunks = list(
    complete(
      ["ab", "é"], stream=True, stream_options={"include_usage": True}, **options
    )
  )
  assert len({chunk.id for chunk in chunks}) == 1
  *parts, last = chunks
  assert last.choices == [] and last.usage == whole.usage
  assert all(chunk.usage is None for chunk in parts)
  for choice in whole.choices:
    own = [c for chunk in parts for c in chunk.choices if c.index == choice.index]
    assert "".join(part.text for part in own) == choice.text
    reasons = [part.finish_reason for part in own]
    assert reasons == [None] * (len(own) - 1) + [choice.finish_reason]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
      joined = [x for part in own for x in getattr(part.logprobs, name)]
      assert joined == getattr(choice.logprobs, name)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_logprobs(complete, loaded, count):
  [choice] = complete("the quick", logprobs=count, **SEEDED).choices
  [piece] = offline(loaded, "the quick", logprobs=True, **SEEDED)
  scores = choice.logprobs
  assert scores.token_logprobs == pytest.approx(piece.logprobs.tolist(), abs=1e-4)
  assert "".join(scores.tokens) == choice.text
  for start, token in zip(scores.text_offset, scores.tokens, strict=True):
    assert choice.text[start : start + len(token)] == token
  for own, top in zip(scores.token_logprobs, scores.top_logprobs, strict=True):
    assert max(1, count) <= len(top) <= count + 1
    assert own in top.values() and sum(map(math.exp, top.values())) <= 1 + 1e-4


def test_too_many_logprobs_and_it_still_works(complete):
  with pytest.raises(openai.BadRequestError, match="20"):
    complete("a", logprobs=21)
  assert complete("a", logprobs=20, max_tokens=1).choices[0].logprobs.tokens


def test_an_echo_has_the_numbers_of_the_prompt(complete, loaded):
  [choice] = complete(
    "the é", echo=True, max_tokens=1, logprobs=1, temperature=0
  ).choices
  assert choice.text.startswith("the é")
  scores = choice.logprobs
  assert "".join(scores.tokens) == choice.text
  assert len(scores.tokens) == len(scores.top_logprobs) == 6 + 1
  assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None
  context, rest = "t", "he é"
  [score] = lm.score(*loaded, [(context, rest)])
  assert sum(scores.token_logprobs[1:-1]) == pytest.approx(score.logprob, abs=1e-4)
  [alone] = complete("the é", echo=True, max_tokens=0, logprobs=1).choices
  assert alone.text == "the é"
  assert alone.logprobs.token_logprobs == scores.token_logprobs[:-1]
  parts = complete("the é", echo=True, max_tokens=4, temperature=0, stream=True)
  [whole] = complete("the é", echo=True, max_tokens=4, temperature=0).choices
  assert "".join(part.choices[0].text for part in parts) == whole.text


def test_a_stop_string_over_several_tokens(complete, loaded):
  [piece] = offline(loaded, "the quick", max_tokens=40, temperature=0)
  stop = piece.text[5:8]
  expected = piece.text.partition(stop)[0]
  options = dict(max_tokens=40, temperature=0, stop=["never", stop])
  [choice] = complete("the quick", **options).choices
  assert (choice.text, choice.finish_reason) == (expected, "stop")
  parts = list(complete("the quick", stream=True, **options))
  assert "".join(part.choices[0].text for part in parts) == expected
  assert parts[-1].choices[0].finish_reason == "stop"


def test_extensions(complete, loaded):
  options = dict(min_p=0.01, top_k=50, repetition_penalty=1.3)
  [choice] = complete("the", top_p=0.9, **SEEDED, extra_body=options).choices
  assert choice.text == lm.generate(*loaded, "the", top_p=0.9, **SEEDED, **options)[0]
  [plain] = offline(loaded, "the", temperature=0, max_tokens=9)
  own = {"stop_token_ids": [int(plain.ids[3])], "ignore_eos": True}
  reply = complete("the", temperature=0, max_tokens=9, extra_body=own)
  assert reply.choices[0].finish_reason == "stop"
  first = plain.ids.tolist().index(plain.ids[3])
  assert reply.usage.completion_tokens == first + 1


def test_penalties(complete, loaded):
  model, params, tokenizer = loaded
  ids = tokenizer.encode("the")
  for name in ("frequency_penalty", "presence_penalty"):
    sampling = Sampling(temperature=0.0, **{name: 1.5})
    written = decode.generate(model, params, [ids], max_tokens=20, sampling=sampling)
    options = dict(max_tokens=20, temperature=0, extra_body={"ignore_eos": True})
    [choice] = complete("the", **{name: 1.5}, **options).choices
    assert choice.text == tokenizer.decode(written.ids_BT[0, :20])
    assert choice.text != complete("the", **options).choices[0].text


def test_a_bias_decides(complete):
  reply = complete("the", temperature=0, max_tokens=3, logit_bias={"65": 100.0})
  assert reply.choices[0].text == "AAA"


def test_metrics_count_and_return_to_nothing(tiny_url, complete):
  def values():
    lines = served.call(f"{tiny_url}/metrics")[2].splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

  before = {name: float(value) for name, value in values().items()}
  for _ in range(3):
    complete("the quick", n=2, max_tokens=5, extra_body={"ignore_eos": True})
  after = {name: float(value) - before.get(name, 0) for name, value in values().items()}
  assert after["lm_generation_tokens_total"] == 30
  assert after["lm_time_to_first_token_seconds_count"] == 6
  assert after["lm_inter_token_latency_seconds_count"] == 24
  assert after["lm_e2e_request_latency_seconds_count"] == 6
  assert after['lm_texts_finished_total{finish_reason="length"}'] == 6
  assert after['lm_http_requests_total{path="/v1/completions",status="200"}'] == 3
  assert values()["lm_requests_running"] == values()["lm_requests_waiting"] == "0.0"
