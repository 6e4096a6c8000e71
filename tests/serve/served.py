"""Tiny models behind a server, for the tests of this folder."""

import atexit
import contextlib
import functools
import json
import pathlib
import re
import tempfile
import urllib.error
import urllib.request

import jax
import numpy as np
import openai
import processes

import lm
from lm.data import tokenizers
from lm.serve import server, service

TEMPLATE = (
  "{% for m in messages %}{% if m.role == 'tool' and not m.content %}"
  "{{ raise_exception('an empty tool') }}{% endif %}<{{ m.role }}>{{ m.content }}"
  "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
  "{% if tools %}<tools>{{ tools | tojson }}{% endif %}"
  "{% if mood %}<{{ mood }}>{% endif %}"
  "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONTEXT = 128


def model_of(tokenizer, family="decoder", **fields):
  """Returns (model, params): random, and far from uniform."""
  sizes = dict(width=32, layers=2, heads=2, context=CONTEXT) | fields
  if family == "decoder":
    sizes = dict(preset="gpt2-tiny") | sizes
  model = lm.model(family, vocab=tokenizer.size, **sizes)
  variables = model.init(jax.random.key(1), np.zeros((1, 2), np.int32))
  return model, jax.tree.map(lambda x: x * 2, lm.letters.unbox(variables["params"]))


def folder(path, *, template=TEMPLATE, **fields):
  """Writes a run's folder of a tiny model of bytes, and returns it."""
  tokenizer = tokenizers.byte_tokenizer()
  lm.save(path, *model_of(tokenizer, **fields), tokenizer)
  if template:
    file = path / "tokenizer" / "tokenizer_config.json"
    file.write_text(
      json.dumps(json.loads(file.read_text()) | {"chat_template": template})
    )
  return path


@functools.cache
def tiny():
  """Returns the folder of a model with a chat template, which all tests share."""
  temporary = tempfile.TemporaryDirectory(prefix="lm-tiny-")
  atexit.register(temporary.cleanup)
  return folder(pathlib.Path(temporary.name) / "tiny")


@functools.cache
def loaded():
  """Returns (model, params, tokenizer) of `tiny`."""
  return lm.load(tiny())


@functools.cache
def tiny_url() -> str:
  """Returns the URL of a server of `tiny` in a process of its own, for all tests.

  It ends with what forks the runs of verbs.
  """
  return _started(tiny())[1]


@functools.cache
def client() -> openai.OpenAI:
  """Returns the official client of that server."""
  return openai.OpenAI(base_url=f"{tiny_url()}/v1", api_key="none", max_retries=0)


@contextlib.contextmanager
def process(path, *flags, **options):
  """A server of a folder in a process of its own: (its Run, its URL)."""
  run, url = _started(path, *flags, **options)
  try:
    yield run, url
  finally:
    run.kill()


def _started(path, *flags, **options):
  run = processes.start("serve", f"--workdir={path}", "--port=0", *flags, **options)
  run.until(lambda: "\ntry: " in run.out)
  return run, re.search(r"^serving \S+ at (http\S+)$", run.out, re.M)[1]


@contextlib.contextmanager
def thread(served):
  """A server of a Service in this process: its URL."""
  with server.Server(served, server.bound("127.0.0.1", 0)) as running:
    yield running.url


def load(path, keys=(), **limits):
  """Returns the Service of a folder."""
  options = dict(keys=service.Keys(keys), limits=service.Limits(**limits))
  return service.load(path, **options)


def call(url, body=None, *, data=None, method=None, **headers):
  """Returns (status, headers, what the JSON says or the text) of a request."""
  if body is not None:
    data = json.dumps(body).encode()
  headers = {name.replace("_", "-"): value for name, value in headers.items()}
  request = urllib.request.Request(url, data, headers, method=method)
  try:
    with urllib.request.urlopen(request, timeout=processes.LIMIT_S) as reply:
      return reply.status, reply.headers, _parsed(reply)
  except urllib.error.HTTPError as error:
    with error:
      return error.code, error.headers, _parsed(error)


def _parsed(reply):
  text = reply.read().decode()
  is_json = reply.headers.get("content-type") == "application/json"
  return json.loads(text) if is_json else text
