"""POST /tokenize and /detokenize, GET /tokenizer_info: what a client's tokenizer does.

lm-eval reads a model's tokenizer through these.
"""

import asyncio

from lm.serve import schema
from lm.serve.routes import Route


async def tokenize(service, body: schema.Tokenize, caller):
  """Returns the ids of a text, where special tokens count as such, or of messages."""
  ids = await asyncio.to_thread(_ids, service, body)
  count = {"count": len(ids), "max_model_len": service.context, "tokens": ids}
  if body.return_token_strs:
    count["token_strs"] = [service.tokenizer.text_of_id(id) for id in ids]
  return count


def _ids(service, body) -> list[int]:
  tokenizer = service.tokenizer
  if body.messages is not None:
    prompt = service.conversation([message.shown() for message in body.messages])
    return list(prompt.ids if prompt.source is None else prompt.source)
  if body.add_special_tokens:
    return tokenizer.prompt(body.prompt, specials=True).tolist()
  return tokenizer.marked(body.prompt).tolist()


async def detokenize(service, body: schema.Detokenize, caller):
  """Returns the text of ids."""
  return {"prompt": await asyncio.to_thread(service.tokenizer.decode, body.tokens)}


async def info(service, body, caller):
  """Returns the special tokens and the chat template."""
  tokenizer = service.tokenizer
  names = ("bos_token", "eos_token", "pad_token", "unk_token")
  named = {name: tokenizer.special_tokens.get(name) for name in names}
  kind = {"tokenizer_class": type(tokenizer).__name__}
  limits = {"model_max_length": service.context, "vocab_size": tokenizer.size}
  return named | kind | limits | {"chat_template": tokenizer.chat_template}


ROUTES = (
  Route("POST", "/tokenize", schema.Tokenize, tokenize),
  Route("POST", "/detokenize", schema.Detokenize, detokenize),
  Route("GET", "/tokenizer_info", None, info),
)
