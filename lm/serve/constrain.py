"""Texts held to a JSON schema or a regular expression, by the library llguidance.

A grammar is compiled to a machine over bytes, and each step allows the tokens whose
bytes it takes; after a whole text, those that end one.
"""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from lm.errors import Mistake
from lm.serve.requests import Constraint

KEPT = 64  # compiled grammars, for they come again
# As Python's json.dumps: with white space at will, a model may write it for ever.
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammars:
  """Makes constraints of texts in a tokenizer's vocabulary; `ends` end a text."""

  def __init__(self, tokenizer, ends: frozenset[int]):
    if not ends:
      raise Mistake(
        "the tokenizer has no token that ends a text, so that none has a form"
      )
    self._ends, self._size = sorted(ends), tokenizer.size
    options = dict(n_vocab=tokenizer.size, eos_token=self._ends)
    with tempfile.TemporaryDirectory() as folder:
      tokenizer.save(folder)
      text = Path(folder, "tokenizer.json").read_text(encoding="utf-8")
    self._tokenizer = LLTokenizer(text, **options)
    self._compiled = functools.lru_cache(KEPT)(self._compile)

  def json(self, schema: str) -> Callable[[], Constraint]:
    """Returns what makes constraints of a JSON schema; Mistake for one that is none."""
    try:
      grammar = LLMatcher.grammar_from_json_schema(schema, overrides=LAYOUT)
    except ValueError as error:
      raise Mistake(f"the JSON schema cannot be read: {error}") from error
    return self._maker(grammar)

  def regex(self, pattern: str) -> Callable[[], Constraint]:
    """Returns what makes constraints of a regular expression, for the whole text."""
    return self._maker(LLMatcher.grammar_from_regex(pattern))

  def _maker(self, grammar: str):
    matcher = self._compiled(grammar)
    return lambda: _Constraint(matcher.deep_copy(), self._ends, self._size)

  def _compile(self, grammar: str) -> LLMatcher:
    limits = LLParserLimits(verbose_errors=False)
    matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
    if matcher.is_error():
      raise Mistake(f"the form cannot be built: {matcher.get_error()}")
    return matcher


class _Constraint:
  """The state of one text in its grammar."""

  def __init__(self, matcher: LLMatcher, ends: list[int], size: int):
    self._matcher, self._ends, self._size = matcher, ends, size

  def allowed(self) -> np.ndarray:
    if self._matcher.is_stopped() and not self._matcher.is_error():
      allowed_V = np.zeros(self._size, bool)
      allowed_V[self._ends] = True
      return allowed_V
    words = allocate_token_bitmask(1, self._size)
    fill_next_token_bitmask(self._matcher, words)
    self._check()
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return bits[: self._size].astype(bool)

  def advance(self, id: int) -> None:
    if not self._matcher.is_stopped():
      self._matcher.consume_token(id)
      self._check()

  def _check(self):
    if self._matcher.is_error():
      raise Mistake(f"the form cannot go on: {self._matcher.get_error()}")
