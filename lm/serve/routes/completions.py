"""POST /v1/completions: texts that continue prompts."""

import asyncio

from lm.serve import schema, texts
from lm.serve.routes import Route, _writing
from lm.serve.wire import DONE, Refusal, event

DEFAULT_TOKENS = 16  # OpenAI's


async def reply(service, body: schema.Completion, caller):
  """Returns texts for prompts: a string, ids, or a list of those."""
  service.check_writes()
  if body.echo and service.model.traits.source:
    raise Refusal(400, "the model's texts do not continue a prompt", param="echo")
  prompts = await asyncio.to_thread(service.prompts, body.prompt)
  max_tokens = DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
  settings = dict(max_tokens=max_tokens, top=body.logprobs, echo=bool(body.echo))
  make = _writing.job
  job = await asyncio.to_thread(
    make, service, body, prompts, caller, draws=body.best_of, **settings
  )
  head = _writing.heading("cmpl", "text_completion", service.name)
  parts = dict(events=_events, choice=choice)
  return await _writing.answered(service, body, job, head, **parts)


async def _events(service, body, run, head):
  has_usage = body.stream_options is not None and body.stream_options.include_usage
  rest = {"usage": None} if has_usage else {}
  async for piece in run:
    choices = [choice(service.tokenizer, run.job, piece)]
    yield event(head | {"choices": choices} | rest)
  if has_usage:
    yield event(head | {"choices": [], "usage": _writing.usage(run)})
  yield DONE


def choice(tokenizer, job, piece: texts.Piece) -> dict:
  """Returns a piece of a text as a choice."""
  return {
    "index": piece.index,
    "text": piece.text,
    "logprobs": None if job.top is None else logprobs(tokenizer, job.top, piece.tokens),
    "finish_reason": piece.finish_reason,
  }


def logprobs(tokenizer, top: int, tokens) -> dict:
  """Returns the lists of a choice: a number for each token, and its alternatives."""
  return {
    "tokens": [token.text for token in tokens],
    "token_logprobs": [token.logprob for token in tokens],
    "top_logprobs": [alternatives(tokenizer, token) for token in tokens],
    "text_offset": [token.start for token in tokens],
  }


def alternatives(tokenizer, token: texts.Token) -> dict[str, float] | None:
  """Returns {text: logprob} of the likeliest tokens and of the token itself.

  A part of a character is "bytes:\\xe2", a special token its name; a text that another
  token has already is "token_id:7". None for the first token of all.
  """
  if token.logprob is None:
    return None
  named = {}
  pairs = dict(token.top) | {token.id: token.logprob}
  for id, logprob in pairs.items():
    name = _name(tokenizer, id)
    named[f"token_id:{id}" if name in named else name] = logprob
  return named


def _name(tokenizer, id: int) -> str:
  data = texts.data_of(tokenizer, id)
  if not data:
    return tokenizer.text_of_id(id)
  try:
    return data.decode()
  except UnicodeDecodeError:
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


ROUTES = (Route("POST", "/v1/completions", schema.Completion, reply),)
