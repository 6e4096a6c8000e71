"""Vectors, classes and answers over HTTP are those of the library."""

import base64
import dataclasses

import numpy as np
import openai
import pytest
import served

import lm
from lm import tasks
from lm.data import tokenizers
from lm.generate.embed import embed
from lm.serve.service import Service

TEXTS = ["the quick brown fox", "日本", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return served.folder(tmp_path_factory.mktemp("tiny") / "tiny", template="")


def client(url):
  return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def url(folder):
  with served.thread(served.load(folder)) as url:
    yield url


def test_vectors(url, folder):
  x_RD = embed(*lm.load(folder), TEXTS)
  with client(url) as own:
    reply = own.embeddings.create(model="tiny", input=TEXTS)  # base64 by itself
    assert [row.index for row in reply.data] == [0, 1, 2]
    np.testing.assert_allclose([row.embedding for row in reply.data], x_RD, atol=1e-5)
    plain = own.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, x_RD[0], atol=1e-5)
    ids = tokenizers.byte_tokenizer().encode(TEXTS[1]).tolist()
    same = own.embeddings.create(model="tiny", input=ids)
    np.testing.assert_allclose(same.data[0].embedding, x_RD[1], atol=1e-5)
    assert same.usage.prompt_tokens == same.usage.total_tokens == len(ids)
    short = own.embeddings.create(model="tiny", input=TEXTS, dimensions=8)
    cut_RD = x_RD[:, :8] / np.linalg.norm(x_RD[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose([row.embedding for row in short.data], cut_RD, atol=1e-5)
  _, _, raw = served.call(
    f"{url}/v1/embeddings", {"input": "a", "encoding_format": "base64"}
  )
  vector = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4")
  np.testing.assert_allclose(vector, x_RD[2], atol=1e-5)


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(dimensions=99), "the vectors have 32 dimensions"),
    (dict(input=""), "a text of 0 tokens"),
    (dict(input="a" * 129), "a text of 129 tokens"),
    (dict(input=[]), "at least 1 item"),
    (dict(encoding_format="hex"), "'float' or 'base64'"),
  ],
)
def test_no_vectors(url, change, words):
  status, _, value = served.call(f"{url}/v1/embeddings", {"input": "a"} | change)
  assert status == 400 and words in value["error"]["message"]


def test_a_model_without_a_template_or_a_task(url):
  message = {"role": "user", "content": "a"}
  _, _, value = served.call(f"{url}/v1/chat/completions", {"messages": [message]})
  assert "no chat template; POST to /v1/completions" in value["error"]["message"]
  for path in ("classify", "answers"):
    _, _, value = served.call(f"{url}/v1/{path}", {"input": "a"})
    assert "the model has no task" in value["error"]["message"]
  with client(url) as own:
    options = dict(model="tiny", temperature=0)
    text = own.responses.create(input="the", max_output_tokens=4, **options).output_text
    reply = own.completions.create(prompt="the", max_tokens=4, **options)
    assert text == reply.choices[0].text


def test_the_tokenizer(url):
  def post(path, **body):
    return served.call(url + path, body)[2]

  ids = post("/tokenize", prompt="é<|endoftext|>", add_special_tokens=False)["tokens"]
  assert ids == [*"é".encode(), 256]
  assert post("/tokenize", prompt="é") == {
    "count": 2, "max_model_len": served.CONTEXT, "tokens": [*"é".encode()]
  }  # fmt: skip
  assert post("/detokenize", tokens=ids) == {"prompt": "é"}
  info = served.call(f"{url}/tokenizer_info")[2]
  assert info["eos_token"] == "<|endoftext|>" and info["chat_template"] is None


def test_an_encoder_decoder(tmp_path):
  path = served.folder(tmp_path / "tiny", family="encdec", template="")
  prompts, options = ["the quick", "é"], dict(max_tokens=6, temperature=0)
  with served.thread(served.load(path)) as url, client(url) as own:
    reply = own.completions.create(model="tiny", prompt=prompts, **options)
    expected = lm.generate(*lm.load(path), prompts, **options)
    assert [choice.text for choice in reply.choices] == expected
    assert reply.usage.prompt_tokens == 10 + 3  # with the token that ends a source
    with pytest.raises(openai.BadRequestError, match="do not continue a prompt"):
      own.completions.create(model="tiny", prompt="a", echo=True)


def serving(name, model_fields, **task_fields):
  """Returns a Service of a random encoder with a task of its own."""
  tokenizer = tokenizers.byte_tokenizer()
  fields = dict(positions="rotary", pooler=True) | model_fields
  model, params = served.model_of(tokenizer, "encoder", **fields)
  task = dataclasses.replace(tasks.kind(name)(train="", **task_fields))
  return Service("tiny", model, params, tokenizer, engine=None, task=task)


def test_classes():
  labels = ("no", "yes", "maybe")
  service = serving("classify", dict(head="classes", classes=3), labels=labels)
  records = [{"text": text} for text in TEXTS]
  args = service.model, service.params, service.tokenizer, records
  expected = service.task.answers(*args, seq=32)
  with served.thread(service) as url:
    _, _, value = served.call(f"{url}/v1/classify", {"input": TEXTS})
    for row, answer in zip(value["data"], expected, strict=True):
      assert row["label"] == answer["label"] and row["labels"] == list(labels)
      assert row["probs"] == pytest.approx(
        [*answer["probabilities"].values()], abs=1e-5
      )
    _, _, value = served.call(f"{url}/v1/answers", {"input": {"text": TEXTS[0]}})
    assert value["data"][0]["answer"]["label"] == expected[0]["label"]
    for body in ({"input": {"text": 1}}, {"input": {"words": "a"}}, {"input": " "}):
      assert served.call(f"{url}/v1/answers", body)[0] == 400
    status, _, value = served.call(f"{url}/v1/completions", {"prompt": "a"})
    assert status == 400 and "writes no text" in value["error"]["message"]
    [card] = served.call(f"{url}/v1/models")[2]["data"]
    assert card["lm"] == {
      "completions": False, "chat": False, "embeddings": True, "task": "classify"
    }  # fmt: skip


def test_answers_to_questions():
  service = serving("squad", dict(head="span", classes=2))
  record = {"question": "what", "context": "the quick brown fox"}
  args = service.model, service.params, service.tokenizer, [record]
  [expected] = service.task.answers(*args, seq=48)
  with served.thread(service) as url:
    for given in (record, "what\nthe quick brown fox"):
      _, _, value = served.call(f"{url}/v1/answers", {"input": given})
      answer = value["data"][0]["answer"]
      assert answer["answer"] == expected["answer"]
      assert answer["score"] == pytest.approx(expected["score"], abs=1e-4)
    status, _, value = served.call(f"{url}/v1/classify", {"input": record})
    assert status == 400 and "names no classes" in value["error"]["message"]
