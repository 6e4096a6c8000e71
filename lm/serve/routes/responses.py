"""POST /v1/responses: a text for a text, in the form of OpenAI's newer API.

Nothing is stored: a conversation is sent whole each time.
"""

import asyncio
import itertools
import time
import uuid

from lm.serve import schema
from lm.serve.jobs import Broken, whole
from lm.serve.routes import Route, _writing
from lm.serve.wire import Stream, event


async def reply(service, body: schema.Response, caller):
  """Returns the response to a text or to messages."""
  service.check_writes()
  sampled, top = _sampled(body), body.top_logprobs
  if body.include and top is None:
    top = 0
  prompt = await asyncio.to_thread(_prompt, service, body)
  make, settings = _writing.job, dict(max_tokens=body.max_output_tokens, top=top)
  job = await asyncio.to_thread(make, service, sampled, (prompt,), caller, **settings)
  run, head = service.run(job), heading(service.name, body)
  if body.stream:
    return Stream(_events(service, run, head), run.close)
  try:
    [piece] = await whole(run)
  finally:
    run.close()
  return _finished(service, run, head, piece.text, piece.tokens)


def _sampled(body: schema.Response) -> schema.Sampled:
  """Returns the settings in the form of the other endpoints."""
  form = body.text.format if body.text else None
  return schema.Sampled(
    temperature=body.temperature, top_p=body.top_p, response_format=form
  )


def _prompt(service, body: schema.Response):
  """Returns the prompt; a model without a chat template continues a plain text."""
  given, instructions = body.input, body.instructions
  if service.template is None and isinstance(given, str) and not instructions:
    return service.prompts(given)[0]
  if isinstance(given, str):
    given = [schema.Item(role="user", content=given)]
  messages = [item.message().shown() for item in given]
  if instructions:
    messages.insert(0, {"role": "system", "content": instructions})
  return service.conversation(messages)


def heading(model: str, body: schema.Response) -> dict:
  """Returns a response before its text."""
  one = lambda value: 1.0 if value is None else value
  return {
    "id": f"resp_{uuid.uuid4().hex}",
    "object": "response",
    "created_at": int(time.time()),
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "instructions": body.instructions,
    "max_output_tokens": body.max_output_tokens,
    "metadata": body.metadata or {},
    "model": model,
    "output": [],
    "parallel_tool_calls": False,
    "previous_response_id": None,
    "store": False,
    "temperature": one(body.temperature),
    "text": {"format": (body.text and body.text.format) or {"type": "text"}},
    "tool_choice": "none",
    "tools": [],
    "top_p": one(body.top_p),
    "truncation": "disabled",
    "usage": None,
  }


def _part(service, run, text: str, tokens) -> dict:
  rows = [_writing.scored(service.tokenizer, token) for token in tokens]
  logprobs = {} if run.job.top is None else {"logprobs": rows}
  return {"type": "output_text", "text": text, "annotations": []} | logprobs


def _item(head: dict, status: str, content: list) -> dict:
  id = head["id"].replace("resp_", "msg_")
  message = {"id": id, "type": "message", "role": "assistant"}
  return message | {"status": status, "content": content}


def _finished(service, run, head: dict, text: str, tokens) -> dict:
  """Returns a response that has ended, by itself or by its limit."""
  is_whole = run.texts[0].reason == "stop"
  status = "completed" if is_whole else "incomplete"
  details = None if is_whole else {"reason": "max_output_tokens"}
  counts = _writing.usage(run)
  usage = {
    "input_tokens": counts["prompt_tokens"],
    "input_tokens_details": counts["prompt_tokens_details"],
    "output_tokens": counts["completion_tokens"],
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": counts["total_tokens"],
  }
  output = [_item(head, status, [_part(service, run, text, tokens)])]
  changes = {"status": status, "incomplete_details": details}
  return head | changes | {"output": output, "usage": usage}


async def _events(service, run, head):
  """Yields the events of a response, numbered."""
  count, texts, tokens = itertools.count(), [], []
  own = {"item_id": _item(head, "", [])["id"], "output_index": 0}
  part = own | {"content_index": 0}

  def made(name: str, **fields) -> str:
    kind = f"response.{name}"
    return event({"type": kind, "sequence_number": next(count)} | fields, kind)

  yield made("created", response=head)
  yield made("in_progress", response=head)
  item = _item(head, "in_progress", [])
  yield made("output_item.added", output_index=0, item=item)
  yield made("content_part.added", **part, part=_part(service, run, "", ()))
  try:
    async for piece in run:
      texts.append(piece.text)
      tokens += piece.tokens
      rows = [_writing.scored(service.tokenizer, token) for token in piece.tokens]
      if piece.text or rows:
        yield made("output_text.delta", **part, delta=piece.text, logprobs=rows)
  except Broken as error:
    problem = {"code": "server_error", "message": str(error)}
    yield made("failed", response=head | {"status": "failed", "error": problem})
    return
  text = "".join(texts)
  done = _finished(service, run, head, text, tokens)
  [item] = done["output"]
  logprobs = item["content"][0].get("logprobs", [])
  yield made("output_text.done", **part, text=text, logprobs=logprobs)
  yield made("content_part.done", **part, part=item["content"][0])
  yield made("output_item.done", output_index=0, item=item)
  yield made(done["status"], response=done)


ROUTES = (Route("POST", "/v1/responses", schema.Response, reply),)
