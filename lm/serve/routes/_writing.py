"""What the endpoints share that write text: settings to jobs, tokens to JSON."""

import dataclasses
import json
import secrets
import time
import uuid

from lm.errors import Mistake
from lm.generate.sample import Sampling
from lm.serve.jobs import Job, Run, whole
from lm.serve.texts import Token, data_of
from lm.serve.wire import Refusal, Stream


def job(service, body, prompts, caller, **settings) -> Job:
  """Returns the Job of a body's settings; `settings` are the job's other fields.

  Raises Refusal for what is over a limit of the service.
  """
  n, top = body.n or 1, settings.get("top")
  draws = settings.pop("draws", None) or n
  limits, stop = service.limits, body.stop or ()
  stop = (stop,) if isinstance(stop, str) else tuple(stop)
  within(limits.inputs, "prompts", len(prompts), "prompt")
  within(limits.texts, "texts (n of each prompt)", len(prompts) * draws, "n")
  within(limits.tops, "likeliest tokens", top or 0, "logprobs")
  within(limits.stops, "stop strings", len(stop), "stop")
  return Job(
    prompts=prompts,
    n=n,
    draws=draws,
    sampling=sampling(body),
    seed=secrets.randbits(32) if body.seed is None else body.seed % 2**32,
    stop=stop,
    ends=ends(service, body),
    bias=bias(service, body.logit_bias or {}),
    constraint=constraint(service, body.response_format),
    salt=f"{caller.salt}/{body.cache_salt or ''}",
    **settings,
  )


def heading(kind: str, object: str, model: str) -> dict:
  """Returns what every part of a reply begins with."""
  id, created = f"{kind}-{uuid.uuid4().hex}", int(time.time())
  return {"id": id, "object": object, "created": created, "model": model}


async def answered(service, body, job: Job, head: dict, *, events, choice):
  """Returns a job's reply: a stream of `events`, or the choices once they are whole."""
  run = service.run(job)
  if body.stream:
    return Stream(events(service, body, run, head), run.close)
  try:
    pieces = await whole(run)
  finally:
    run.close()
  choices = [choice(service.tokenizer, job, piece) for piece in pieces]
  return head | {"choices": choices, "usage": usage(run)}


def within(limit: int, what: str, count: int, param: str) -> None:
  """Raises Refusal for more than the limit."""
  if count > limit:
    raise Refusal(400, f"{count} {what}; the most here is {limit}", param=param)


def sampling(body) -> Sampling:
  """Returns the settings of a body; those that it leaves out are OpenAI's."""
  names = (field.name for field in dataclasses.fields(Sampling))
  given = {name: getattr(body, name) for name in names}
  given = {name: value for name, value in given.items() if value is not None}
  return Sampling(**given | {"top_k": max(0, given.get("top_k", 0))})


def ends(service, body) -> frozenset[int]:
  """Returns the ids that end a text."""
  own = frozenset() if body.ignore_eos else service.ends
  return own | frozenset(body.stop_token_ids or ())


def bias(service, given: dict) -> tuple[tuple[int, float], ...]:
  """Returns (id, bias) pairs of a dict by ids; Refusal for what is no id."""
  pairs = {}
  for key, value in given.items():
    is_id = key.isascii() and key.isdigit() and len(key) < 10
    if not is_id or int(key) >= service.tokenizer.size:
      raise Refusal(400, f"{key[:20]!r} is no id of a token", param="logit_bias")
    pairs[int(key)] = value
  return tuple(sorted(pairs.items()))


def constraint(service, form: dict | None):
  """Returns what makes the constraint of a response_format, None for free text."""
  match form:
    case None | {"type": "text"}:
      return None
    case {"type": "json_object"}:
      schema = {"type": "object"}
    case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
      pass
    case {"type": "json_schema", "schema": dict(schema)}:  # of /v1/responses
      pass
    case {"type": "regex", "regex": str(pattern)}:
      return _made(lambda: service.grammar().regex(pattern))
    case _:
      raise Refusal(
        400,
        "response_format must be of type text, json_object, json_schema with a schema, "
        "or regex with a regex",
        param="response_format",
      )
  return _made(lambda: service.grammar().json(json.dumps(schema)))


def _made(make):
  try:
    return make()
  except Mistake as error:
    raise Refusal(400, str(error), param="response_format") from error


def usage(run: Run) -> dict:
  """Returns the tokens of a run as OpenAI counts them."""
  read, written = run.prompt_tokens, run.written_tokens
  return {
    "prompt_tokens": read,
    "completion_tokens": written,
    "total_tokens": read + written,
    "prompt_tokens_details": {"cached_tokens": run.cached_tokens},
  }


def scored(tokenizer, token: Token) -> dict:
  """Returns a token as chat completions and responses have it."""
  data = data_of(tokenizer, token.id)
  top = [_alternative(tokenizer, *pair) for pair in token.top]
  return {
    "token": token.text,
    "logprob": token.logprob,
    "bytes": list(data),
    "top_logprobs": top,
  }


def _alternative(tokenizer, id: int, logprob: float) -> dict:
  data = data_of(tokenizer, id)
  text = data.decode("utf-8", "replace")
  return {"token": text, "logprob": logprob, "bytes": list(data)}
