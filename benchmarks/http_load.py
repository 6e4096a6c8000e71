"""Requests to an OpenAI-compatible server under load, and the times of their tokens.

A thread for each request in flight, over the standard library alone: the client should
cost little where it shares the cores with the server.
"""

import http.client
import json
import random
import statistics
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

LIMIT_S = 600  # for one answer
WORDS = ("a", "bird", "can", "see", "more", "of", "the", "river", "than", "any", "boat")


class Request(NamedTuple):
  """A prompt of so many words, and the most tokens of its answer."""

  prompt: str
  max_tokens: int


class Answer(NamedTuple):
  """Seconds: of the start and the end, and of each part of the text as it came."""

  start_s: float
  end_s: float
  parts_s: list[float]
  tokens: int
  error: str


def requests(count: int, seed: int) -> list[Request]:
  """Returns requests of mixed lengths, the same for the same seed."""
  draw = random.Random(seed)
  return [
    Request(
      " ".join(draw.choices(WORDS, k=draw.choice((8, 32, 128)))),
      draw.choice((16, 32, 64)),
    )
    for _ in range(count)
  ]


def ask(url: str, model: str, request: Request) -> Answer:
  """Sends one message, and reads the answer as it is streamed."""
  parts_s, tokens, error, start_s = [], 0, "", time.perf_counter()
  body = {
    "model": model,
    "messages": [{"role": "user", "content": request.prompt}],
    "max_tokens": request.max_tokens,
    "temperature": 0,
    "stream": True,
    "stream_options": {"include_usage": True},
  }
  host = urllib.parse.urlsplit(url).netloc
  connection = http.client.HTTPConnection(host, timeout=LIMIT_S)
  try:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    if response.status != 200:
      error = f"{response.status} {response.read(200).decode(errors='replace')}"
    else:
      for event in _events(response):
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        if any((c.get("delta") or {}).get("content") for c in event.get("choices", ())):
          parts_s.append(time.perf_counter())
  except OSError as problem:
    error = repr(problem)
  finally:
    connection.close()
  end_s = time.perf_counter()
  if not (error or parts_s):
    error = "no text"
  return Answer(start_s, end_s, parts_s, tokens or len(parts_s), error)


def _events(response):
  """Yields the JSON objects of a stream of server-sent events."""
  for line in response:
    kind, _, data = line.decode().partition(":")
    if kind == "data" and data.strip() != "[DONE]":
      yield json.loads(data)


def closed(url: str, model: str, todo: list[Request], clients: int) -> list[Answer]:
  """Returns the answers of clients that each ask again once they have an answer."""
  with ThreadPoolExecutor(clients) as pool:
    return list(pool.map(lambda request: ask(url, model, request), todo))


def opened(url: str, model: str, todo: list[Request], per_s: float) -> list[Answer]:
  """Returns the answers of requests that arrive at random, so many a second."""
  draw, answers, threads = random.Random(0), [None] * len(todo), []

  def run(index):
    answers[index] = ask(url, model, todo[index])

  for index in range(len(todo)):
    threads.append(threading.Thread(target=run, args=(index,)))
    threads[-1].start()
    time.sleep(draw.expovariate(per_s))
  for thread in threads:
    thread.join()
  return answers


def summary(answers: list[Answer]) -> dict:
  """Returns tokens and requests a second, percentiles in ms, and the failures.

  `first` is the time to the first part of a text, `between` that between two.
  """
  good = [answer for answer in answers if not answer.error]
  if not good:
    return {"failed": len(answers)}
  span_s = max(a.end_s for a in good) - min(a.start_s for a in good)
  first_ms = [1e3 * (a.parts_s[0] - a.start_s) for a in good]
  between_ms = [
    1e3 * (later - earlier)
    for a in good
    for earlier, later in zip(a.parts_s, a.parts_s[1:], strict=False)
  ]
  return {
    "tokens_per_s": sum(a.tokens for a in good) / span_s,
    "requests_per_s": len(good) / span_s,
    "first_p50_ms": percentile(first_ms, 50),
    "first_p99_ms": percentile(first_ms, 99),
    "between_p50_ms": percentile(between_ms, 50),
    "between_p99_ms": percentile(between_ms, 99),
    "failed": len(answers) - len(good),
  }


def percentile(values: list[float], percent: int) -> float:
  """Returns a percentile, of one value that value; 0 of none."""
  if len(values) < 2:
    return values[0] if values else 0.0
  return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
