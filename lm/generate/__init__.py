"""Text from a model: `lm.generate(model, params, tokenizer, prompts)`, and its parts.

decode      ids to ids: prompts read at once, padded to buckets, and written on
slots       the compiled loop: rows of a batch, each with a text of its own
sample      logits to one token a row
beam        ids to ids by beam search
prompts     text to padded ids, and whether a request fits the model
detokenize  ids to text, one id at a time
stream      text to text, in pieces or whole
chat        conversations to prompts, by the template of the tokenizer
fill        masked tokens and gaps in a text, by BERT and T5
embed       texts to vectors, by an encoder
"""

import sys
import types

from lm.errors import check_arguments


def generate(model, params, tokenizer, prompts, **options) -> list[str]:
  """Returns the continuations of prompts as a list of strings, without the prompts.

  model, params, tokenizer = lm.load("runs/shakespeare")
  [text] = lm.generate(model, params, tokenizer, "To be, or", max_tokens=50)
  texts = lm.generate(model, params, tokenizer, "To be", n=3, top_p=0.9, seed=1)

  `prompts` is a string or a list of strings (or of ids); the texts are ordered by
  prompt, then sample. The options are those of `lm.generate.stream.stream`: max_tokens,
  temperature, top_k, top_p, min_p, repetition_penalty, n, seed, stop, slides. Raises
  Mistake for a setting out of range and for a model that does not decode.
  """
  from lm.generate import stream

  check_arguments("lm.generate", model, params, tokenizer)
  pieces = stream.generate(model, params, tokenizer, prompts, **options)
  return [piece.text for piece in pieces]


class _Front(types.ModuleType):
  """This folder, callable: a function `lm.generate` would hide `lm.generate.decode`."""

  def __call__(self, model, params, tokenizer, prompts, **options) -> list[str]:
    return generate(model, params, tokenizer, prompts, **options)

  __call__.__doc__ = generate.__doc__


sys.modules[__name__].__class__ = _Front  # as in the reference: customizing modules
