"""The settings of an engine, which `serve` takes as --engine.NAME=VALUE."""

from dataclasses import dataclass

from lm.errors import Mistake, not_negative, one_of, positive

CACHES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True)
class Settings:
  """The sizes of what is done at once, and its precision."""

  rows: int = 8  # texts that are written at once
  size: int = 0  # tokens of a prompt and its text; 0: the context, or 2048 if longer
  chunk: int = 128  # tokens of a prompt that are read between two tokens of the texts
  waiting: int = 256  # requests that may wait for a row
  prefix_bytes: int = 1 << 29  # of prompts kept, to be read once
  cache: str = "float32"  # of keys and values; or bfloat16, int8
  guess: int = 0  # tokens guessed ahead and checked at once; the texts stay the same
  draft: str = ""  # a path: the smaller model that guesses; "": the text so far does
  tensor: int = 1  # devices over which heads and channels are split

  def __post_init__(self):
    positive(self, "rows", "chunk", "waiting", "tensor")
    not_negative(self, "size", "prefix_bytes", "guess")
    one_of("cache", self.cache, CACHES)
    if self.draft and not self.guess:
      raise Mistake(f"draft={self.draft} guesses, and guess=0; set how many, such as 4")
