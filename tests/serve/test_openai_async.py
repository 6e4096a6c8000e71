"""The asynchronous client, many at once; clients that leave; characters over tokens."""

import asyncio
import functools
import json

import openai
import pytest
import served

import lm

FORMS = ["(日本|😀|é){3}", r"\{\}"]
tiny = pytest.fixture(scope="module")(served.tiny)


@pytest.fixture(scope="module")
def service(tiny):
  return served.load(tiny)


@pytest.fixture(scope="module")
def url(service):
  with served.thread(service) as url:
    yield url


def asynchronous(test):
  """Returns the test of a coroutine, which gets an asynchronous client."""

  @functools.wraps(test)
  def run(url, **fixtures):
    async def body():
      async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300
      ) as client:
        await test(client, **fixtures)

    asyncio.run(body())

  del run.__wrapped__  # pytest would read the arguments of the coroutine
  return run


async def text_of(parts) -> str:
  return "".join([part.choices[0].text async for part in parts])


def test_many_at_once_are_as_each_alone(url, tiny):
  loaded, prompts = lm.load(tiny), ["a", "the quick", "é", "日本", "x" * 40, "0"]
  settings = [dict(temperature=0), dict(seed=3), dict(seed=4, top_p=0.8)]
  wanted = [(p, dict(s, max_tokens=8)) for p in prompts for s in settings]

  @asynchronous
  async def together(client):
    create = functools.partial(client.completions.create, model="tiny")
    whole = [create(prompt=prompt, **options) for prompt, options in wanted]
    parts = [create(prompt=p, stream=True, **options) for p, options in wanted]
    replies = await asyncio.gather(*whole, *parts)
    streams = [text_of(stream) for stream in replies[len(wanted) :]]
    texts = [reply.choices[0].text for reply in replies[: len(wanted)]]
    assert texts == await asyncio.gather(*streams)
    expected = [lm.generate(*loaded, p, **options)[0] for p, options in wanted]
    assert texts == expected

  together(url)


@pytest.mark.parametrize("form", FORMS)
def test_characters_over_several_tokens(url, form):
  @asynchronous
  async def written(client):
    options = dict(model="tiny", prompt="a", max_tokens=40, seed=1, logprobs=1)
    options["extra_body"] = {"response_format": {"type": "regex", "regex": form}}
    whole = await client.completions.create(**options)
    [choice] = whole.choices
    assert choice.finish_reason == "stop"
    assert "\ufffd" not in choice.text and len(choice.text) >= 2
    assert "".join(choice.logprobs.tokens) == choice.text
    parts = await client.completions.create(stream=True, **options)
    pieces = [part.choices[0].text async for part in parts]
    assert "".join(pieces) == choice.text and "\ufffd" not in pieces

  written(url)


def test_a_schema(url):
  @asynchronous
  async def written(client):
    schema = {
      "type": "object",
      "properties": {"a": {"enum": ["é", "😀"]}, "b": {"type": "boolean"}},
      "required": ["a", "b"],
      "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    messages = [{"role": "user", "content": "go"}]
    reply = await client.chat.completions.create(
      model="tiny", messages=messages, response_format=form, seed=5, max_tokens=40
    )
    value = json.loads(reply.choices[0].message.content)
    assert value["a"] in ("é", "😀") and value["b"] in (True, False)
    with pytest.raises(openai.BadRequestError, match="the form cannot be built"):
      broken = {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}
      await client.chat.completions.create(
        model="tiny", messages=messages, response_format=broken
      )

  written(url)


LONG = dict(model="tiny", prompt="a", max_tokens=120, extra_body={"ignore_eos": True})


async def idle(service):
  """Waits until the engine has nothing to do."""
  while service.engine.stats().running or service.engine.stats().waiting:
    await asyncio.wait_for(asyncio.to_thread(service.meter.text), 60)


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_frees_its_place(url, service, streams):
  @asynchronous
  async def leave(client):
    await client.completions.create(**LONG | {"max_tokens": 1})  # compiles
    before = service.engine.stats().finished["cancelled"]
    if streams:
      replies = [
        await client.completions.create(stream=True, **LONG) for _ in range(20)
      ]
      for reply in replies:
        await anext(aiter(reply))
        await reply.close()
    else:
      tasks = [
        asyncio.create_task(client.completions.create(**LONG)) for _ in range(20)
      ]
      while not service.engine.stats().running:
        await asyncio.to_thread(service.meter.text)
      for task in tasks:
        task.cancel()
      await asyncio.gather(*tasks, return_exceptions=True)
    await idle(service)
    finished = service.engine.stats().finished
    assert finished["cancelled"] - before >= 1
    while service.active:
      await asyncio.to_thread(service.meter.text)
    reply = await client.completions.create(**LONG)
    assert reply.usage.completion_tokens == 120

  leave(url)


def test_a_poisoned_request_fails_alone(url, service, monkeypatch):
  class Poison:
    def allowed(self):
      raise RuntimeError("poison")

  class Poisoned:
    def regex(self, pattern):
      return Poison

  monkeypatch.setattr(service, "grammar", Poisoned)

  @asynchronous
  async def mixed(client):
    form = {"response_format": {"type": "regex", "regex": "x"}}
    options = dict(model="tiny", prompt="a", max_tokens=30)
    good = [client.completions.create(**options, seed=1) for _ in range(4)]
    bad = [client.completions.create(**options, extra_body=form) for _ in range(2)]
    replies = await asyncio.gather(*good, *bad, return_exceptions=True)
    texts = {reply.choices[0].text for reply in replies[:4]}
    assert len(texts) == 1
    for error in replies[4:]:
      assert isinstance(error, openai.InternalServerError)
      assert error.body["type"] == "server_error"
    stream = await client.completions.create(**options, stream=True, extra_body=form)
    with pytest.raises(openai.APIError, match="poison"):
      await text_of(stream)
    reply = await client.completions.create(**options, seed=1)
    assert {reply.choices[0].text} == texts

  mixed(url)
