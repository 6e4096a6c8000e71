"""Simplified and traditional Chinese, by the package opencc."""

import functools

from lm.data.clean import _packages

CONFIGS = {"simplified": "t2s", "traditional": "s2t"}


def version() -> str:
  """Returns the version of opencc; Mistake if it is not installed."""
  return _packages.version("opencc")


def converted(text: str, form: str) -> str:
  """Returns a text with "simplified" or "traditional" characters, words considered.

  A text that is converted already stays as it is. Raises Mistake without opencc.
  """
  # A second conversion may change a few characters more, and once in a while back.
  converter, forms = _converter(form), []
  while text not in forms:
    forms.append(text)
    text = converter.convert(text)
  return min(forms[forms.index(text) :])


@functools.cache
def _converter(form: str):
  version()
  import opencc

  return opencc.OpenCC(CONFIGS[form])
