"""The official client against a server of a tiny model: the contract of the replies."""

import math

import openai
import pytest
import served

import lm
from lm.generate import chat, decode, stream
from lm.generate.sample import Sampling

MESSAGES = [
  {"role": "system", "content": "Be brief."},
  {"role": "user", "content": "Hi"},
]
SEEDED = dict(temperature=1.0, seed=7, max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return served.folder(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.fixture(scope="module")
def loaded(folder):
  return lm.load(folder)


@pytest.fixture(scope="module")
def url(folder):
  with served.process(folder) as (_, url):
    yield url


@pytest.fixture(scope="module")
def client(url):
  with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
    yield client


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


def answered(loaded, messages, **options):
  ids = chat.encode(loaded[2], messages)
  return stream.generate(*loaded, [ids], **options)


def test_a_chat_is_the_template_and_the_library(client, loaded):
  reply = client.chat.completions.create(model="tiny", messages=MESSAGES, n=2, **SEEDED)
  pieces = answered(loaded, MESSAGES, n=2, **SEEDED)
  assert reply.object == "chat.completion" and reply.id.startswith("chatcmpl-")
  assert [c.message.content for c in reply.choices] == [p.text for p in pieces]
  assert [c.finish_reason for c in reply.choices] == [p.finish_reason for p in pieces]
  assert all(c.message.role == "assistant" for c in reply.choices)
  assert reply.usage.prompt_tokens == len(chat.encode(loaded[2], MESSAGES))


def test_a_chat_as_a_stream(client):
  options = dict(messages=MESSAGES, n=2, logprobs=True, top_logprobs=2, **SEEDED)
  whole = client.chat.completions.create(model="tiny", **options)
  usage = {"include_usage": True}
  parts = client.chat.completions.create(
    model="tiny", stream=True, stream_options=usage, **options
  )
  *chunks, last = parts
  assert last.choices == [] and last.usage == whole.usage
  assert len({chunk.id for chunk in chunks}) == 1
  assert chunks[0].object == "chat.completion.chunk"
  for choice in whole.choices:
    own = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
    assert [c.delta.role for c in own] == ["assistant"] + [None] * (len(own) - 1)
    assert "".join(c.delta.content or "" for c in own) == choice.message.content
    reasons = [c.finish_reason for c in own if c.finish_reason]
    assert reasons == [choice.finish_reason]
    tokens = [t for c in own if c.logprobs for t in c.logprobs.content]
    assert tokens == choice.logprobs.content


def test_the_tokens_of_a_chat(client):
  options = dict(logprobs=True, top_logprobs=3, **SEEDED)
  reply = client.chat.completions.create(model="tiny", messages=MESSAGES, **options)
  [choice] = reply.choices
  tokens = choice.logprobs.content
  assert "".join(token.token for token in tokens) == choice.message.content
  data = b"".join(bytes(token.bytes) for token in tokens)
  assert data.decode("utf-8", "replace") == choice.message.content
  assert all(len(token.top_logprobs) == 3 for token in tokens)
  plain = client.chat.completions.create(model="tiny", messages=MESSAGES, **SEEDED)
  assert plain.choices[0].logprobs is None
  assert plain.choices[0].message == choice.message


def test_what_the_template_is_given(client, loaded):
  parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
  messages = [
    {"role": "developer", "content": "Be <|endoftext|>."},
    {"role": "user", "content": parts},
  ]
  shown = [
    {"role": "system", "content": "Be <|endoftext|>."},
    {"role": "user", "content": "a\nb"},
  ]
  tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
  for extra in ({}, {"tools": tools}, {"tools": tools, "tool_choice": "none"}):
    reply = client.chat.completions.create(
      model="tiny", messages=messages, max_tokens=1, **extra,
      extra_body={"chat_template_kwargs": {"mood": "calm", "self": 1}},
    )  # fmt: skip
    variables = {"tools": tools} if extra == {"tools": tools} else {}
    ids = chat.encode(loaded[2], shown, mood="calm", **variables)
    assert reply.usage.prompt_tokens == len(ids)
    assert loaded[2].eos not in ids


def test_as_many_tokens_as_there_is_room_for(client, loaded):
  biased = dict(logit_bias={"65": 100.0}, temperature=0)
  reply = client.chat.completions.create(model="tiny", messages=MESSAGES, **biased)
  assert reply.usage.total_tokens == served.CONTEXT
  assert reply.choices[0].finish_reason == "length"
  assert set(reply.choices[0].message.content) == {"A"}


def test_responses(client, loaded):
  options = dict(temperature=0, max_output_tokens=8)
  reply = client.responses.create(
    model="tiny", input="Hi", instructions="Be brief.", **options
  )
  [piece] = answered(loaded, MESSAGES, temperature=0, max_tokens=8)
  assert reply.output_text == piece.text
  assert reply.status == "incomplete"
  assert reply.incomplete_details.reason == "max_output_tokens"
  usage = reply.usage
  assert usage.input_tokens == len(chat.encode(loaded[2], MESSAGES))
  assert (usage.output_tokens, usage.total_tokens) == (8, usage.input_tokens + 8)
  same = client.responses.create(model="tiny", input=MESSAGES, **options)
  assert same.output_text == piece.text


def test_a_response_as_a_stream(client):
  options = dict(input="Hi", temperature=0, max_output_tokens=8)
  whole = client.responses.create(model="tiny", **options)
  with client.responses.stream(model="tiny", **options) as events:
    kinds, numbers, text = [], [], ""
    for event in events:
      kinds.append(event.type)
      numbers.append(event.sequence_number)
      text += event.delta if event.type == "response.output_text.delta" else ""
  assert text == whole.output_text
  assert kinds[:2] == ["response.created", "response.in_progress"]
  assert kinds[-1] == "response.incomplete"
  assert event.response.output_text == whole.output_text
  assert event.response.usage == whole.usage
  assert numbers == sorted(numbers)


def test_metrics_count_and_return_to_nothing(url, complete):
  def values():
    lines = served.call(f"{url}/metrics")[2].splitlines()
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
