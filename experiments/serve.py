"""Serves a model over HTTP, as OpenAI's clients know it, with a page to talk to it.

./launch.sh serve --workdir=runs/shakespeare
./launch.sh serve --workdir=SmolLM2-135M-Instruct --port=8080 --api_key_file=keys.txt
./launch.sh serve --workdir=runs/smollm-int8 --engine.rows=16 --engine.cache=int8

Ctrl-C or SIGTERM finishes the texts that are being written, and refuses new ones; a
second one ends at once. docs/serve.md has the endpoints.
"""

import shlex
import sys
import time

from absl import flags

from experiments import process
from experiments.interrupt import Interrupt
from lm.errors import Mistake
from lm.serve.settings import Settings

_WORKDIR = process.workdir_flag("a run's folder, a Hugging Face folder or a .gguf file")
_HOST = flags.DEFINE_string(
  "host", "127.0.0.1", "the address to serve at; 0.0.0.0 is for other machines too"
)
_PORT = flags.DEFINE_integer(
  "port", 8000, "its port; 0 takes a free one", lower_bound=0, upper_bound=65535
)
_KEY_FILE = flags.DEFINE_string(
  "api_key_file", None, "a file with an API key a line; without it all are served"
)
_SETTINGS = process.fields_flags("engine", Settings)


def main():
  from lm.serve import server, service  # with the packages that only a server needs

  keys = (
    service.Keys() if _KEY_FILE.value is None else service.Keys.read(_KEY_FILE.value)
  )
  settings = _SETTINGS()
  place = server.bound(_HOST.value, _PORT.value)
  print(f"reading and compiling {_WORKDIR.value}", flush=True)
  served = service.load(_WORKDIR.value, settings=settings, keys=keys)
  start_s = time.perf_counter()
  with Interrupt("finishing what runs, then stopping") as interrupt:
    with server.Server(served, place) as running:
      print(f"serving {served.name} at {running.url}", flush=True)
      print(f"try: {example(served, running.url)}", flush=True)
      while not interrupt.number:
        running.wait(0.1)
        if not running.is_alive():
          raise Mistake("the server has ended; its messages are above")
    hours = (time.perf_counter() - start_s) / 3600
  print(f"served {served.name} for {hours:.2f} hours", file=sys.stderr)


def example(served, url: str) -> str:
  """Returns a command that gets an answer from the model."""
  path, body = "/v1/embeddings", '{"input": "A text of yours."}'
  if served.is_chat:
    message = '{"role": "user", "content": "Who are you?"}'
    path, body = "/v1/chat/completions", f'{{"messages": [{message}]}}'
  elif served.engine is not None:
    path, body = "/v1/completions", '{"prompt": "To be, or", "max_tokens": 32}'
  elif served.task is not None:
    path, body = "/v1/answers", '{"input": "A text of yours."}'
  words = ["curl", f"{url}{path}", "-d", body]
  if served.keys:
    words[1:1] = ["-H", "Authorization: Bearer KEY"]
  return shlex.join(words)


if __name__ == "__main__":
  process.run(main, required=("workdir",))
