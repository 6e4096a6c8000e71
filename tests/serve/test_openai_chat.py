"""The official client: conversations and responses."""

import pytest
import served

from lm.generate import chat, stream

MESSAGES = [
  {"role": "system", "content": "Be brief."},
  {"role": "user", "content": "Hi"},
]
SEEDED = dict(temperature=1.0, seed=7, max_tokens=12)
loaded = pytest.fixture(scope="module")(served.loaded)
client = pytest.fixture(scope="module")(served.client)


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
