"""Requests that are refused: OpenAI's errors, limits, keys; and fuzzed bodies."""

import json
import socket
import string

import openai
import pytest
import served
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.errors import Mistake
from lm.serve import routes, service

POSTS = [route.path for route in routes.every() if route.method == "POST"]
GOOD = {
  "/v1/completions": {"prompt": "a", "max_tokens": 1},
  "/v1/chat/completions": {
    "messages": [{"role": "user", "content": "a"}],
    "max_tokens": 1,
  },
  "/v1/responses": {"input": "a", "max_output_tokens": 1},
  "/v1/embeddings": {"input": "a"},
  "/tokenize": {"prompt": "a"},
  "/detokenize": {"tokens": [97]},
}


tiny = pytest.fixture(scope="module")(served.tiny)


@pytest.fixture(scope="module")
def url(tiny):
  with served.thread(served.load(tiny, body_bytes=100_000)) as url:
    yield url


def refused(url, path, body=None, **options):
  """Returns (status, error) of a request that is refused as OpenAI does."""
  status, headers, value = served.call(url + path, body, **options)
  assert 400 <= status < 500, value
  assert headers["x-request-id"]
  assert list(value) == ["error"]
  assert set(value["error"]) == {"message", "type", "param", "code"}
  assert isinstance(value["error"]["message"], str) and value["error"]["message"]
  return status, value["error"]


@pytest.mark.parametrize(
  "change, param, words",
  [
    (dict(temperature=-1), "temperature", "greater than or equal to 0"),
    (dict(temperature="hot"), "temperature", "valid number"),
    (dict(top_p=0), "top_p", "greater than 0"),
    (dict(n=0), "n", "greater than or equal to 1"),
    (dict(n=1000), "n", "1000 texts (n of each prompt); the most here is 128"),
    (dict(prompt=["a"] * 300), "prompt", "300 prompts; the most here is 256"),
    (dict(prompt=[]), "prompt", "at least 1 item"),
    (dict(prompt=[[]]), "prompt", "at least 1 item"),
    (dict(prompt=[-1]), "prompt", "greater than or equal to 0"),
    (dict(prompt=[10**30]), "prompt", "less than"),
    (dict(prompt=[258]), None, "ids must be from 0 to 257"),
    (dict(prompt=["a", 1]), "prompt", "valid string"),
    (dict(prompt=None), "prompt", "valid string"),
    (dict(prompt={"a": 1}), "prompt", "valid string"),
    (dict(max_tokens=-1), "max_tokens", "greater than or equal to 0"),
    (dict(max_tokens=0), None, "max_tokens=0 is for echo=true"),
    (dict(max_tokens=1.5), "max_tokens", "valid integer"),
    (dict(max_tokens=2000), None, "do not fit|does not fit"),
    (dict(logprobs=21), "logprobs", "21 likeliest tokens; the most here is 20"),
    (dict(logprobs=-1), "logprobs", "greater than or equal to 0"),
    (dict(stop=["a"] * 17), "stop", "17 stop strings; the most here is 16"),
    (dict(stop=""), "stop", "at least 1 character"),
    (dict(stream_options={"include_usage": True}), None, "is for stream=true"),
    (dict(best_of=1, n=2), None, "best_of must be n or more"),
    (dict(best_of=2, stream=True), None, "cannot be streamed"),
    (dict(suffix="x"), "suffix", "Input should be ''"),
    (dict(frequency_penalty=3), "frequency_penalty", "less than or equal to 2"),
    (dict(logit_bias={"x": 1}), "logit_bias", "'x' is no id of a token"),
    (dict(logit_bias={"258": 1}), "logit_bias", "'258' is no id of a token"),
    (dict(logit_bias={"1": 101}), "logit_bias", "less than or equal to 100"),
    (dict(response_format={"type": "xml"}), "response_format", "must be of type"),
    (dict(tempurature=1), "tempurature", "there is no parameter 'tempurature'"),
    (dict(seed=2**70), "seed", "less than"),
    (dict(model="other"), "model", "there is no model 'other' here"),
  ],
)
def test_what_is_wrong_is_named(url, change, param, words):
  path = "/v1/completions"
  status, error = refused(url, path, GOOD[path] | change)
  assert status == (404 if "model" in change else 400)
  assert error["param"] == param
  assert any(part in error["message"] for part in words.split("|")), error
  assert served.call(url + path, GOOD[path])[0] == 200


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(messages=[]), "at least 1 item"),
    (dict(messages=[{"role": "robot", "content": "a"}]), "Input should be 'system'"),
    (dict(messages=[{"role": "user"}]), "a message without tool_calls needs content"),
    (dict(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "'text'"),
    (dict(messages=[{"role": "tool", "content": ""}]), "an empty tool"),
    (dict(top_logprobs=2), "top_logprobs is for logprobs=true"),
    (dict(logprobs=True, top_logprobs=21), "the most here is 20"),
    (dict(tool_choice="required"), "'none' or 'auto'"),
    (dict(messages=[{"role": "user", "content": "a" * 500}]), "does not fit"),
    (
      dict(
        messages=[{"role": "user", "content": "".join(map(chr, range(64976, 65008)))}]
      ),
      "noncharacters",
    ),
  ],
)
def test_what_is_wrong_with_a_chat(url, change, words):
  path = "/v1/chat/completions"
  status, error = refused(url, path, GOOD[path] | change)
  assert status == 400 and words in error["message"], error
  assert served.call(url + path, GOOD[path])[0] == 200


def test_a_prompt_too_long_has_its_code(url):
  body = {"prompt": "a" * 127, "max_tokens": 2}
  status, error = refused(url, "/v1/completions", body)
  assert (status, error["code"]) == (400, "context_length_exceeded")
  assert served.call(f"{url}/v1/completions", body | {"max_tokens": 1})[0] == 200


NO_BODIES = [b"", b"{", b"[]", b"1", b'"a"', b"{}", b"\xff", b"[" * 5000]
NO_BODIES += [b'{"prompt": "\\ud800"}', b'{"prompt": "a", "temperature": NaN}']
NO_BODIES += [b'{"prompt": "a", "top_p": 1e999}']


@pytest.mark.parametrize("data", NO_BODIES)
def test_a_body_that_is_none(url, data):
  assert refused(url, "/v1/completions", data=data)[0] == 400


def test_paths_and_methods(url):
  assert refused(url, "/v1/nothing")[0] == 404
  assert refused(url, "/v1/completions")[0] == 405
  assert refused(url, "/v1/models", {})[0] == 405
  assert refused(url, "/v1/models/../../etc/passwd")[0] == 404


def test_a_large_body(url):
  big = {"prompt": "a" * 100_000}
  assert refused(url, "/v1/completions", big)[0] == 413
  host, port = url.removeprefix("http://").split(":")
  with socket.create_connection((host, int(port))) as raw:  # without its length
    raw.sendall(
      b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
      b"Transfer-Encoding: chunked\r\n\r\n"
    )
    part = b"a" * 0xFFF0
    for _ in range(3):
      raw.sendall(b"fff0\r\n" + part + b"\r\n")
    assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_pages_of_other_origins_and_names(url):
  path = "/v1/completions"
  assert refused(url, path, GOOD[path], origin="http://evil.example")[0] == 403
  assert refused(url, path, GOOD[path], origin="null")[0] == 403
  assert served.call(url + path, GOOD[path], origin=url)[0] == 200
  assert refused(url, path, GOOD[path], host="evil.example")[0] == 403
  assert "access-control-allow-origin" not in served.call(f"{url}/v1/models")[1]


def test_request_ids(url):
  given = served.call(f"{url}/v1/models", x_request_id="mine-1")[1]["x-request-id"]
  assert given == "mine-1"
  made = served.call(f"{url}/v1/models", x_request_id="a b")[1]["x-request-id"]
  assert len(made) == 32


def test_keys(tiny):
  keys = ["first-key", "second-key"]
  with served.thread(served.load(tiny, keys)) as url:
    for path in [*POSTS, "/v1/models", "/metrics", "/nothing"]:
      body = GOOD.get(path, {}) if path in POSTS else None
      for header in (
        {},
        {"authorization": "Bearer no"},
        {"authorization": "first-key"},
      ):
        status, error = refused(url, path, body, **header)
        assert (status, error["code"]) == (401, "invalid_api_key")
    assert served.call(f"{url}/health")[0] == 200
    assert served.call(f"{url}/")[0] == 200
    for key in keys:
      with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        assert client.completions.create(model="tiny", prompt="a", max_tokens=1)
        with pytest.raises(openai.AuthenticationError):
          client.with_options(api_key=f"{key}x").models.list()


def test_keys_share_no_prefix_and_are_not_in_their_salt():
  keys = service.Keys(["one", "two"])
  salts = [keys.salt(f"Bearer {key}") for key in ("one", "two")]
  assert salts[0] != salts[1] and "one" not in salts[0]
  assert salts[0] == keys.salt("bearer one")
  assert service.Keys().salt("") == ""


def test_files_of_keys(tmp_path):
  file = tmp_path / "keys.txt"
  with pytest.raises(Mistake, match="is no file; wanted one with an API key a line"):
    service.Keys.read(file)
  file.write_text("\n \n")
  with pytest.raises(Mistake, match="has no API key; wanted one a line"):
    service.Keys.read(file)
  file.write_text(" one \n\ntwo")
  assert service.Keys.read(file).salt("Bearer two")


def test_more_requests_than_are_served(tiny):
  with served.thread(served.load(tiny, requests=0)) as url:
    status, headers, value = served.call(f"{url}/tokenize", {"prompt": "a"})
    assert (status, headers["retry-after"]) == (429, "1")
    assert value["error"]["type"] == "rate_limit_error"
    assert served.call(f"{url}/v1/models")[0] == 200


def test_a_request_that_takes_too_long(tiny):
  with served.thread(served.load(tiny, seconds=0.0)) as url:
    status, headers, value = served.call(f"{url}/v1/completions", {"prompt": "a"})
    assert (status, headers["retry-after"]) == (503, "1")
    assert "longer" in value["error"]["message"]


json_values = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(string.ascii_lowercase, max_size=8), inner, max_size=3)
  ),
  max_leaves=8,
)
FIELDS = sorted(
  {name for r in routes.every() if r.body for name in r.body.model_fields}
)
NUMBERS = (
  st.integers(-3, 300) | st.floats(-3, 3) | st.sampled_from([0, 1, 2**31, 2**63])
)


@settings(max_examples=150)
@given(
  st.sampled_from(sorted(GOOD)),
  st.dictionaries(st.sampled_from(FIELDS), json_values | NUMBERS, max_size=3),
)
def test_no_body_is_the_fault_of_the_server(url, path, changes):
  limit = {"max_tokens": 1} if "max_tokens" in GOOD[path] else {}
  status, _, value = served.call(url + path, GOOD[path] | changes | limit)
  assert status in (200, 400, 404), (status, value)
  if status != 200:
    assert value["error"]["type"] == "invalid_request_error"


@settings(max_examples=100)
@given(st.sampled_from(POSTS), st.binary(max_size=60) | json_values.map(json.dumps))
def test_no_bytes_are_the_fault_of_the_server(url, path, data):
  data = data.encode() if isinstance(data, str) else data
  assert served.call(url + path, data=data)[0] == 400
