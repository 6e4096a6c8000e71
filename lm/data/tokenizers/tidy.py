"""Spaces that a tokenizer has put before punctuation, removed again."""

# What clean_up_tokenization_spaces removes, in this order.
TIGHT = {f" {mark}": mark for mark in ".?!,"} | {" ' ": "'"}
TIGHT |= {f" {end}": end for end in ("n't", "'m", "'s", "'ve", "'re")}


def tidied(text: str) -> str:
  """Returns a text without the spaces that clean_up_tokenization_spaces removes."""
  for spaced, tight in TIGHT.items():
    text = text.replace(spaced, tight)
  return text
