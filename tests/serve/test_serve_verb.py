"""The verb serve: what it prints, how it stops, and its page."""

import json
import re
import shlex
import signal
import subprocess
import urllib.request

import processes
import pytest
import served

tiny = pytest.fixture(scope="module")(served.tiny)


def test_the_line_that_it_prints_works(tiny, tmp_path):
  keys = tmp_path / "keys.txt"
  keys.write_text("secret-key\n")
  with served.process(tiny, f"--api_key_file={keys}") as (run, url):
    [line] = [x[5:] for x in run.out.splitlines() if x.startswith("try: ")]
    words = [word.replace("KEY", "secret-key") for word in shlex.split(line)]
    assert words[0] == "curl"
    done = subprocess.run([*words, "-s"], capture_output=True, text=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant"
    with urllib.request.urlopen(url) as page:
      assert page.headers["content-type"] == "text/html; charset=utf-8"
      assert "script-src 'unsafe-inline'" in page.headers["content-security-policy"]
      text = page.read().decode()
    assert "<title>lm</title>" in text and "http" not in text  # nothing from elsewhere
    assert "secret-key" not in run.out + run.err


def begin(url, **options):
  """Starts a stream: returns (its reply, the events that it has had)."""
  body = {"prompt": "a", "max_tokens": 100, "ignore_eos": True, "stream": True}
  data = json.dumps(body | options).encode()
  reply = urllib.request.urlopen(urllib.request.Request(f"{url}/v1/completions", data))
  assert reply.readline().startswith(b"data: ")
  return reply


def test_sigterm_finishes_what_runs(tiny):
  with served.process(tiny) as (run, url):
    replies = [begin(url, seed=seed) for seed in range(3)]
    run.signal(signal.SIGTERM)
    texts = [reply.read().decode() for reply in replies]
    assert run.wait().code == 0, run.err
    assert all(text.endswith("data: [DONE]\n\n") for text in texts)
    assert all('"finish_reason":"length"' in text for text in texts)
    assert "finishing what runs, then stopping" in run.err


def test_new_requests_are_refused_meanwhile(tiny):
  service = served.load(tiny)
  with served.thread(service) as url:
    reply = begin(url)
    service.is_draining = True
    status, headers, value = served.call(f"{url}/v1/completions", {"prompt": "a"})
    assert (status, headers["retry-after"]) == (503, "1")
    assert value["error"]["message"] == "the server is stopping"
    status, _, value = served.call(f"{url}/health")
    assert (status, value["status"]) == (503, "the server is stopping")
    assert reply.read().endswith(b"data: [DONE]\n\n")


def test_a_second_ctrl_c_ends_at_once(tiny):
  with served.process(tiny) as (run, url):
    reply = begin(url, n=100, max_tokens=126)
    run.signal(signal.SIGINT)
    run.until(lambda: "press Ctrl-C again" in run.err)
    while not run.ended(0.3):
      run.signal(signal.SIGINT)
    assert run.code == 130
    reply.close()


def test_an_engine_that_ended_is_not_healthy(tiny):
  service = served.load(tiny)
  with served.thread(service) as url:
    assert served.call(f"{url}/health")[2] == {"status": "ok"}
    service.engine.close(drain_s=0)
    status, _, value = served.call(f"{url}/health")
    assert (status, value["status"]) == (503, "the engine has ended")


def test_settings_reach_the_engine(tiny):
  flags = "--engine.rows=2 --engine.size=96 --engine.guess=3 --engine.cache=int8"
  draft = f"--engine.draft={tiny}"  # its own draft: all that it guesses is right
  with served.process(tiny, *flags.split(), draft, "--engine.tensor=1") as (_, url):
    body = {"prompt": "a", "max_tokens": 64, "ignore_eos": True, "temperature": 0}
    text = served.call(f"{url}/v1/completions", body)[2]["choices"][0]["text"]
    assert served.call(f"{url}/v1/completions", body)[2]["choices"][0]["text"] == text
    status, _, value = served.call(f"{url}/v1/completions", body | {"max_tokens": 96})
    assert status == 400 and "96 tokens" in value["error"]["message"]
    metrics = served.call(f"{url}/metrics")[2]
  turns = float(re.search(r"^lm_engine_turns_total (\S+)$", metrics, re.M)[1])
  assert turns < 1 + 2 * 64 / 2


def test_on_two_devices_the_answers_are_the_same(tiny):
  body = {"prompt": "the quick", "max_tokens": 12, "temperature": 0}
  replies = []
  for count in (1, 2):
    flag = f"--engine.tensor={count}"
    with served.process(tiny, flag, devices=count) as (_, url):
      text = served.call(f"{url}/v1/completions", body)[2]["choices"][0]["text"]
      vector = served.call(f"{url}/v1/embeddings", {"input": "the"})[2]["data"][0]
      replies.append((text, pytest.approx(vector["embedding"], abs=1e-5)))
  assert replies[0][0] == replies[1][0] and replies[0][1].expected == replies[1][1]


def test_settings_that_cannot_be(tiny):
  flag = f"--workdir={tiny}"
  refused = lambda *flags: processes.refused("serve", flag, "--port=0", *flags)
  assert refused("--engine.rows=0") == "rows=0; wanted 1 or more"
  assert "float32, bfloat16, int8" in refused("--engine.cache=int3")
  assert "guess=0; set how many" in refused(f"--engine.draft={tiny}")
  assert refused("--engine.tensor=99").startswith("tensor=99, and there are ")
  assert "engine.rowz" in refused("--engine.rowz=1")


def test_what_cannot_be_served(tiny, tmp_path):
  flag = f"--workdir={tiny}"
  line = processes.refused("serve", flag, "--api_key_file=none.txt")
  assert line == "none.txt is no file; wanted one with an API key a line"
  with served.process(tiny) as (_, url):
    port = url.rpartition(":")[2]
    line = processes.refused("serve", flag, f"--port={port}")
    assert line.startswith(f"127.0.0.1:{port} cannot be served: ")
