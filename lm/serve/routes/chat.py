"""POST /v1/chat/completions: the assistant's next message in a conversation."""

import asyncio

from lm.serve import schema, texts
from lm.serve.routes import Route, _writing
from lm.serve.wire import DONE, event


async def reply(service, body: schema.Chat, caller):
  """Returns answers to the messages of a conversation."""
  service.check_writes()
  messages = [message.shown() for message in body.messages]
  variables = body.chat_template_kwargs or {}
  if body.tools and body.tool_choice != "none":
    variables = variables | {"tools": body.tools}
  prompt = await asyncio.to_thread(service.conversation, messages, variables)
  max_tokens = body.max_completion_tokens or body.max_tokens
  top = (body.top_logprobs or 0) if body.logprobs else None
  make, settings = _writing.job, dict(max_tokens=max_tokens, top=top)
  job = await asyncio.to_thread(make, service, body, (prompt,), caller, **settings)
  head = _writing.heading("chatcmpl", "chat.completion", service.name)
  parts = dict(events=_events, choice=_choice)
  return await _writing.answered(service, body, job, head, **parts)


def _choice(tokenizer, job, piece: texts.Piece) -> dict:
  message = {"role": "assistant", "content": piece.text, "refusal": None}
  return {"index": piece.index, "message": message} | _rest(tokenizer, job, piece)


def _rest(tokenizer, job, piece) -> dict:
  rows = [_writing.scored(tokenizer, token) for token in piece.tokens]
  logprobs = None if job.top is None else {"content": rows, "refusal": None}
  return {"logprobs": logprobs, "finish_reason": piece.finish_reason}


async def _events(service, body, run, head):
  """Yields chunks: of each choice the role first, then its text in pieces."""
  has_usage = body.stream_options is not None and body.stream_options.include_usage
  rest = {"usage": None} if has_usage else {}
  head = head | {"object": "chat.completion.chunk"}
  for index in range(run.job.n):
    delta = {"role": "assistant", "content": ""}
    empty = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    yield event(head | {"choices": [empty]} | rest)
  async for piece in run:
    delta = {"content": piece.text} if piece.text else {}
    choice = {"index": piece.index, "delta": delta}
    choice |= _rest(service.tokenizer, run.job, piece)
    yield event(head | {"choices": [choice]} | rest)
  if has_usage:
    yield event(head | {"choices": [], "usage": _writing.usage(run)})
  yield DONE


ROUTES = (Route("POST", "/v1/chat/completions", schema.Chat, reply),)
