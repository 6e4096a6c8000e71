"""POST /v1/answers and /v1/classify: what the task of a model answers."""

import json

from lm import tasks
from lm.generate.prompts import bucket
from lm.serve import schema
from lm.serve.routes import Route, _writing
from lm.serve.wire import Refusal


async def answers(service, body: schema.Questions, caller):
  """Returns the task's answer for each text, or record by the names of its columns."""
  rows, count = await _answered(service, body)
  data = [{"index": i, "answer": row} for i, row in enumerate(rows)]
  return _list(service, data, count)


async def classify(service, body: schema.Questions, caller):
  """Returns the label of each text with the probabilities of all of them."""
  rows, count = await _answered(service, body)
  if "probabilities" not in rows[0]:
    raise Refusal(400, "the model names no classes; POST to /v1/answers")
  data = [
    {
      "index": index,
      "label": row["label"],
      "probs": list(row["probabilities"].values()),
      "labels": list(row["probabilities"]),
      "num_classes": len(row["probabilities"]),
    }
    for index, row in enumerate(rows)
  ]
  return _list(service, data, count)


def _list(service, data: list, count: int) -> dict:
  usage = {"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}
  return {"object": "list", "model": service.name, "data": data, "usage": usage}


async def _answered(service, body):
  if service.task is None:
    raise Refusal(400, "the model has no task; see /v1/models for what it does")
  given = body.input if isinstance(body.input, list) else [body.input]
  _writing.within(service.limits.inputs, "inputs", len(given), "input")
  records = [_record(service.task, item) for item in given]
  return await service.compute(_compute, service, records)


def _record(task, item) -> dict:
  """Returns the record of a text or an object, whose values are of the kinds wanted."""
  if isinstance(item, str):
    return tasks.record_of(task, item)
  example = task.record("text")
  record = tasks.record_of(task, json.dumps(item))
  record = {name: record[name] for name in example}
  for name, value in record.items():
    is_text = isinstance(value, str)
    is_list = isinstance(value, list) and all(isinstance(x, str) for x in value)
    if not (is_list if isinstance(example[name], list) else is_text):
      kind = "a list of strings" if isinstance(example[name], list) else "a string"
      raise Refusal(400, f"{name} must be {kind}", param="input")
  return record


def _compute(service, records):
  """Returns (the answers, the tokens that were read)."""
  task, context = service.task, service.model.config.context or 2**31
  sizes = [task.length(service.tokenizer, record) for record in records]
  seq = min(bucket(max(sizes)), context)
  rows = task.answers(
    service.model, service.params, service.tokenizer, records, seq=seq
  )
  return rows, sum(min(size, seq) for size in sizes)


ROUTES = (
  Route("POST", "/v1/answers", schema.Questions, answers),
  Route("POST", "/v1/classify", schema.Questions, classify),
)
