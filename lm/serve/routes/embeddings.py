"""POST /v1/embeddings: vectors of texts, of length one."""

import base64

import numpy as np

from lm.generate import embed, prompts
from lm.serve import schema
from lm.serve.routes import Route, _writing
from lm.serve.wire import Refusal


async def reply(service, body: schema.Embedding, caller):
  """Returns a vector for each text: strings, or ids as they are.

  Fewer `dimensions` are the first ones, brought to length one again.
  """
  if not service.is_embedder:
    raise Refusal(400, "the model makes no vectors of texts")
  ids = await service.compute(_ids, service, body.input)
  _writing.within(service.limits.inputs, "inputs", len(ids), "input")
  x_RD = await service.compute(_vectors, service, ids)
  width = body.dimensions or x_RD.shape[1]
  if width > x_RD.shape[1]:
    raise Refusal(
      400, f"the vectors have {x_RD.shape[1]} dimensions", param="dimensions"
    )
  x_RD = x_RD[:, :width]
  x_RD = x_RD / np.maximum(np.linalg.norm(x_RD, axis=1, keepdims=True), 1e-12)
  rows = [_row(x_D, body.encoding_format) for x_D in x_RD]
  data = [
    {"object": "embedding", "index": index, "embedding": row}
    for index, row in enumerate(rows)
  ]
  count = sum(map(len, ids))
  usage = {"prompt_tokens": count, "total_tokens": count}
  return {"object": "list", "data": data, "model": service.name, "usage": usage}


def _ids(service, given) -> list:
  """Returns the ids of every input."""
  tokenizer = service.tokenizer
  if isinstance(given, str):
    given = [given]
  if isinstance(given[0], str):
    return embed.encode(tokenizer, given)
  return prompts.encode(tokenizer, given)


def _vectors(service, ids):
  return embed.of_ids(service.model, service.params, service.tokenizer, ids)


def _row(x_D, form: str | None):
  if form != "base64":
    return x_D.tolist()
  return base64.b64encode(x_D.astype("<f4").tobytes()).decode()


ROUTES = (Route("POST", "/v1/embeddings", schema.Embedding, reply),)
