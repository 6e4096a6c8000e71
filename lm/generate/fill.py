"""Holes in a text, filled: BERT's masked tokens, and T5's gaps of any length.

    model, params, tokenizer = lm.load("bert-base-uncased")
    fill.masks(model, params, tokenizer, "Paris is the [MASK] of France.")

    model, params, tokenizer = lm.load("t5-small")
    fill.gaps(model, params, tokenizer, "The <extra_id_0> walks in the park.")

The names of the holes are special tokens of the tokenizer.
"""

import re

import jax
import numpy as np

from lm import models
from lm.data.rows.corrupt import MASK, ROBERTA_MASK
from lm.errors import Mistake
from lm.generate import stream

_GAP = re.compile(r"<extra_id_\d+>")


def has_masks(tokenizer, text: str) -> bool:
  """True if a text contains the tokenizer's mask."""
  return any(name in text and name in tokenizer.special for name in _MASKS)


def has_gaps(tokenizer, text: str) -> bool:
  """True if a text contains one of the tokenizer's names of gaps."""
  return any(name in tokenizer.special for name in _GAP.findall(text))


_MASKS = (MASK, ROBERTA_MASK)


def masks(model, params, tokenizer, text: str, *, n=5) -> list[list[tuple]]:
  """Returns for each mask of a text the `n` likeliest tokens: (token, probability).

  A token is an entry of the vocabulary, "##ing" where a word goes on. Raises Mistake
  for a model that predicts no tokens, a text without a mask, and one that is too long.
  """
  fields = models.fields(model)
  family, head = fields["family"], fields.get("head", "none")
  if head != "tokens" or model.traits.sees != "both":
    raise Mistake(
      f"a model of family {family!r} with head={head!r} fills no masks; wanted an "
      "encoder with head='tokens'"
    )
  if not has_masks(tokenizer, text):
    names = [name for name in _MASKS if name in tokenizer.special]
    wanted = f"wanted {names[0]} in it" if names else "the tokenizer has none either"
    raise Mistake(f"the text has no mask; {wanted}")
  ids_T = tokenizer.prompt(text, specials=True)
  if len(ids_T) > model.config.context:
    raise Mistake(
      f"a text of {len(ids_T)} tokens does not fit the model's context of "
      f"{model.config.context}; shorten it"
    )
  mask_ids = [tokenizer.id(name) for name in _MASKS if name in tokenizer.special]
  logits_BTV, _ = jax.jit(model.apply)({"params": params}, ids_T[None])
  chances_TV = np.asarray(jax.nn.softmax(logits_BTV[0, :, : tokenizer.size]))
  return [
    [
      (tokenizer.text_of_id(int(id)), float(chances_TV[t, id]))
      for id in np.argsort(-chances_TV[t], kind="stable")[:n]
    ]
    for t in np.flatnonzero(np.isin(ids_T, mask_ids))
  ]


def gaps(model, params, tokenizer, text: str, **options) -> list[str]:
  """Returns the text with its gaps filled, as many times as the option `n` says.

  The options are those of `stream.stream`. A gap that the model did not come to is left
  as it is. Raises Mistake for a model without an encoder.
  """
  if not model.traits.source:
    raise Mistake("wanted a model with an encoder, such as T5, to fill gaps")
  ids_T = tokenizer.marked(text)
  pieces = stream.generate(model, params, tokenizer, [ids_T], **options)
  return [filled(tokenizer, text, piece.ids) for piece in pieces]


def filled(tokenizer, text: str, ids) -> str:
  """Returns the text with each gap replaced by what follows its name in the ids."""
  name_of = {tokenizer.id(name): name for name in set(_GAP.findall(text))}
  specials = {tokenizer.id(name) for name in tokenizer.special}
  starts = [t for t, id in enumerate(ids) if int(id) in name_of]
  for start in starts:
    rest = ids[start + 1 :]
    end = next((t for t, id in enumerate(rest) if int(id) in specials), len(rest))
    part = tokenizer.decode(rest[:end])
    text = text.replace(name_of[int(ids[start])], part.strip(), 1)
  return text
