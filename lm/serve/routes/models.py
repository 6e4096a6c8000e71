"""GET /v1/models and /v1/models/NAME: the one model that is served."""

from lm import tasks
from lm.serve.routes import Route


def card(service) -> dict:
  """Returns the model and, in `lm`, which endpoints it answers."""
  engine, task = service.engine, service.task
  abilities = {
    "completions": engine is not None,
    "chat": service.is_chat,
    "embeddings": service.is_embedder,
    "task": None if task is None else tasks.options(task)["name"],
  }
  return {
    "id": service.name,
    "object": "model",
    "created": service.created,
    "owned_by": "lm",
    "max_model_len": service.context,
    "lm": abilities,
  }


async def every(service, body, caller):
  """Returns a list of one model."""
  return {"object": "list", "data": [card(service)]}


async def one(service, body, caller):
  """Returns the model of that name; Refusal when there is none."""
  service.check_model(caller.names["name"])
  return card(service)


ROUTES = (
  Route("GET", "/v1/models", None, every),
  Route("GET", "/v1/models/{name:path}", None, one),
)
