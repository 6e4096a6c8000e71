"""The language of a text, by the package py3langid, whose model is in it (5 MB)."""

import functools

from lm.data.clean import _packages
from lm.errors import Mistake

CHARS = 10_000  # from the start of a text, which decide


def version(language: str) -> str:
  """Returns the version of py3langid.

  Raises Mistake if it is not installed, and for a language that it does not know.
  """
  number = _packages.version("py3langid")
  if language not in (known := _identifier().labels):
    raise Mistake(f"no language {language!r}; found: {', '.join(sorted(known))}")
  return number


def is_in(text: str, language: str, score: float) -> bool:
  """Returns True if a language is the likeliest and has at least this probability."""
  likeliest, probability = _identifier().classify(text[:CHARS])
  return likeliest == language and probability >= score


@functools.cache
def _identifier():
  number = _packages.version("py3langid")
  from py3langid import langid

  if not hasattr(langid.LanguageIdentifier, "from_model_file"):
    raise Mistake(
      f"py3langid is {number}; wanted 0.4 or newer: .venv/bin/python -m pip install -U "
      "py3langid"
    )
  return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
