"""A model as a service: all that its endpoints share."""

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax

from lm import stores, tasks
from lm.data.tokenizers import vocabulary
from lm.disk import paths
from lm.errors import Mistake
from lm.generate import chat, decode, prompts
from lm.letters import make_mesh
from lm.nn import cpu
from lm.serve.engine import DEFAULTS, Engine
from lm.serve.jobs import Job, Prompt, Run
from lm.serve.metrics import Meter
from lm.serve.reading import SMALL
from lm.serve.requests import Failed, Request, Written
from lm.serve.templates import Template
from lm.serve.wire import Refusal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """The most that a client may want."""

  body_bytes: int = 4 << 20
  inputs: int = 256  # prompts, or texts to embed or to classify, in a request
  texts: int = 128  # that a request has written: its prompts times `n`
  tops: int = 20  # likeliest tokens reported with each
  stops: int = 16  # stop strings
  requests: int = 256  # being served at a time
  seconds: float = 600.0  # for a request
  stuck_s: float = 300.0  # of one turn of the engine, until /health fails


class Keys:
  """API keys of a server; without any, every client is served.

  Keys are kept as digests, and all of them are compared, in constant time.
  """

  def __init__(self, keys=()):
    self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

  @classmethod
  def read(cls, path) -> "Keys":
    """Returns the keys of a file, one a line; Mistake when it has none."""
    file = paths.local(path)
    if not file.is_file():
      raise Mistake(f"{path} is no file; wanted one with an API key a line")
    keys = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    if not any(keys):
      raise Mistake(f"{path} has no API key; wanted one a line")
    return cls(filter(None, keys))

  def __bool__(self):
    return bool(self._digests)

  def salt(self, authorization: str) -> str:
    """Returns a name of a client by its header; Refusal for an unknown key.

    It does not give the key away. It is "" where there are no keys.
    """
    if not self._digests:
      return ""
    scheme, _, key = authorization.partition(" ")
    digest = hashlib.sha256(key.strip().encode("utf-8", "replace")).digest()
    is_known = False
    for own in self._digests:
      is_known |= hmac.compare_digest(own, digest)
    if scheme.lower() != "bearer" or not is_known:
      raise Refusal(401, "no such API key; send one as 'Authorization: Bearer KEY'")
    return hashlib.sha256(b"salt" + digest).hexdigest()[:32]


class Service:
  """A model with its engine, and the state that requests share.

  `engine` is None for a model that writes no text, `task` for one without an answer of
  its own. `params` are used beside the engine, for vectors and answers.
  """

  def __init__(
    self,
    name: str,
    model,
    params,
    tokenizer,
    *,
    engine,
    task=None,
    limits=None,
    keys=None,
    mesh=None,
  ):
    self.name, self.model, self.params = name, model, params
    self.tokenizer, self.engine, self.task = tokenizer, engine, task
    self.limits, self.keys = limits or Limits(), keys or Keys()
    self.created, self.meter = int(time.time()), Meter(engine)
    self.ends = chat.stops(tokenizer)  # ids that end a text
    self.template = Template(tokenizer) if tokenizer.chat_template else None
    self.is_draining, self.active = False, 0  # requests being served
    self._pool = ThreadPoolExecutor(1, thread_name_prefix="answers")
    self._mesh = mesh
    self._grammar, self._lock = None, threading.Lock()

  @property
  def is_chat(self) -> bool:
    return self.template is not None and self.engine is not None

  @property
  def is_embedder(self) -> bool:
    return not self.model.traits.source

  @property
  def context(self) -> int:
    """The most tokens of a text with its prompt."""
    return self.engine.size if self.engine else self.model.config.context

  def check_model(self, name: str | None) -> None:
    """Raises Refusal for the name of another model."""
    if name is not None and name != self.name:
      raise Refusal(
        404,
        f"there is no model {name!r} here; GET /v1/models lists what there is",
        param="model",
        code="model_not_found",
      )

  def check_writes(self) -> None:
    """Raises Refusal for a model that writes no text."""
    if self.engine is None:
      raise Refusal(400, "the model writes no text; see /v1/models for what it does")

  def prompts(self, given) -> tuple[Prompt, ...]:
    """Returns the prompts of a string, of ids, or of a list of those."""
    return self.of_ids(prompts.encode(self.tokenizer, given))

  def of_ids(self, several) -> tuple[Prompt, ...]:
    """Returns the prompts of arrays of ids."""
    starts, sources, forced = prompts.as_sources(self.model, self.tokenizer, several)
    if sources is None:
      return tuple(Prompt(tuple(map(int, ids))) for ids in starts)
    firsts, last = forced
    return tuple(
      Prompt(tuple(map(int, ids)), tuple(map(int, source)), (first, last))
      for ids, source, first in zip(starts, sources, firsts, strict=True)
    )

  def conversation(self, messages, variables=None) -> Prompt:
    """Returns the prompt that a conversation is for the model; Mistake without chat.

    `variables` are what else the template reads.
    """
    if self.template is None:
      raise Mistake("the model has no chat template; POST to /v1/completions")
    variables = dict(variables or {})
    for name in ("messages", "renderer"):  # names of our own
      variables.pop(name, None)
    tokenizer = self.tokenizer
    ids = chat.encode(tokenizer, messages, renderer=self.template, **variables)
    if not len(ids):
      raise Mistake("the chat template makes nothing of these messages")
    return self.of_ids([ids])[0]

  def grammar(self):
    """Returns what makes constraints for the model's vocabulary."""
    with self._lock:
      if self._grammar is None:
        from lm.serve.constrain import Grammars

        self._grammar = Grammars(self.tokenizer, self.ends)
      return self._grammar

  def run(self, job: Job) -> Run:
    """Returns the run of a job, which has begun."""
    return Run(self.engine, self.tokenizer, job, self.meter)

  async def compute(self, function, *args):
    """Returns function(*args), computed in a thread, one call after the other."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._pool, self._placed, function, *args)

  def _placed(self, function, *args):
    """Returns function(*args), computed where the parameters are."""
    with contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh):
      return function(*args)

  def health(self) -> str:
    """Returns what is wrong with the service, "" if nothing is."""
    if self.is_draining:
      return "the server is stopping"
    if self.engine is None:
      return ""
    if not self.engine.is_alive():
      return "the engine has ended"
    stalled_s = self.engine.stalled_s()
    if stalled_s is not None and stalled_s > self.limits.stuck_s:
      return f"the engine has made no progress for {stalled_s:.0f} s"
    return ""

  def close(self) -> None:
    """Ends the process and the thread that it started."""
    if self.template is not None:
      self.template.close()
    self._pool.shutdown(wait=False, cancel_futures=True)


def load(path, *, settings=DEFAULTS, keys=None, limits=None) -> Service:
  """Returns the service of the model at a path, with its engine running and warm.

  Raises Mistake for a model without a tokenizer, and as `lm.load` does.
  """
  store, mesh = stores.open(path), _mesh(settings.tensor)
  model, params, tokenizer = _loaded(path, mesh)
  if tokenizer is None:
    raise Mistake(f"{path} has no tokenizer; text needs one")
  task, engine = tasks.of_model(store, model), None
  if model.traits.decodes and model.output == "tokens":
    drawable = vocabulary.drawable(tokenizer, model.config.vocab)
    draft = _loaded(settings.draft, mesh)[:2] if settings.draft else None
    options = dict(settings=settings, drawable=drawable, draft=draft, mesh=mesh)
    engine = Engine(model, params, **options)
    warm(engine, has_source=model.traits.source)
  options = dict(engine=engine, task=task, keys=keys, limits=limits, mesh=mesh)
  return Service(name_of(path), model, params, tokenizer, **options)


def _mesh(tensor: int):
  """Returns the mesh of the first devices, split by the tensor axis."""
  devices = jax.devices()
  if tensor > len(devices):
    raise Mistake(f"tensor={tensor}, and there are {len(devices)} devices here")
  return make_mesh(devices[:tensor], tensor=tensor)


def _loaded(path, mesh):
  """Returns (model, params, tokenizer), ready to write with."""
  # Depth unrolled takes longer to compile and is faster on a CPU, for every token.
  fields = {"scan": False} if cpu.active() else {}
  model, params, tokenizer = stores.load(path, mesh=mesh, **fields)
  # Once, for all that read them.
  return model, decode.prepare_params(model, params), tokenizer


def warm(engine, *, has_source: bool) -> None:
  """Returns when the engine has compiled what every text needs, by writing two.

  One has a short prompt, the other a long one, which are read in chunks of their own
  sizes. Raises Mistake for a model that cannot write any.
  """
  events, source = queue.SimpleQueue(), (0,) if has_source else None
  for size in (1, min(SMALL + 2, engine.size - 1)):
    request = Request(ids=(0,) * size, source=source, max_tokens=1)
    engine.submit(request, events.put)
    while not isinstance(event := events.get(), Written | Failed):
      continue
    if isinstance(event, Failed):
      engine.close(drain_s=0)
      raise Mistake(event.reason)


def name_of(path) -> str:
  """Returns the name that clients know the model at a path by."""
  kind, colon, name = str(path).partition(":")
  if colon and kind in ("hf", "package"):
    return name
  return paths.local(path).absolute().name.removesuffix(".gguf")
