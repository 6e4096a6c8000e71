"""Spaces that a tokenizer has put before punctuation, removed again."""

# What clean_up_tokenization_spaces removes, in this order.
TIGHT = {f" {mark}": mark for mark in ".?!,"} | {" ' ": "'"}
TIGHT |= {f" {end}": end for end in ("n't", "'m", "'s", "'ve", "'re")}
# Codes of languages: mBART's "en_XX", NLLB's "eng_Latn", M2M-100's "__en__".
CODE = re.compile(r"[a-z]{2}_[A-Z]{2}|[a-z]{3}_[A-Z][a-z]{3}|__[a-z]{2,3}__")


def tidied(text: str) -> str:
  """Returns a text without the spaces that clean_up_tokenization_spaces removes."""
  for spaced, tight in TIGHT.items():
    text = text.replace(spaced, tight)
  return text
