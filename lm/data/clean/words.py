"""Words of texts: those of Chinese apart, and texts without their commonest words."""

import functools
import importlib.util
import re

from lm.errors import Mistake

_ENGLISH = """
a about above after again against all am an and any are as at be because been before
being below between both but by can could did do does doing down during each few for
from further had has have having he her here hers herself him himself his how i if
in into is it its itself just me more most my myself no nor not now of off on once
only or other our ours ourselves out over own same she should so some such than that
the their theirs them themselves then there these they this those through to too
under until up very was we were what when where which while who whom why will with
would you your yours yourself yourselves
"""
# No negations and no words of degree: a review without them says something else.
_CHINESE = """
的 了 着 过 地 得 是 在 有 和 与 及 或 而 且 但 并 也 就 都 又 还 把 被 给 对 从 向
到 于 为 以 之 其 这 那 这个 那个 这些 那些 这里 那里 哪 什么 怎么 我 你 您 他 她 它
我们 你们 他们 她们 它们 自己 一 一个 一些 个 们 啊 吧 呢 吗 呀 哦 嘛 啦 因为 所以
如果 虽然 但是 而且 然后 以及
"""
STOPWORDS = {
  "english": frozenset(_ENGLISH.split()),
  "chinese": frozenset(_CHINESE.split()),
}
SEGMENTERS = ("jieba",)
_WORD = re.compile(r"\S+[ \t]*")
_AROUND = " \t.,;:!?()[]{}<>*_\"'`-\u2013\u2014\u2018\u2019\u201c\u201d\u2026"


def check(name: str, value: str, choices) -> None:
  """Raises Mistake for a value that is neither empty nor one of the choices."""
  if value and value not in choices:
    raise Mistake(f"{name}={value!r}; wanted one of {', '.join(choices)}, or none")


def segmented(text: str, segmenter: str) -> str:
  """Returns a text with a space between its words, which Chinese writes without.

  `segmenter` is "jieba" (the words of its dictionary, likeliest first, and names by a
  hidden Markov model), or "" for the text as it is. Raises Mistake without the package.
  """
  if not segmenter:
    return text
  return " ".join(word for word in _jieba().cut(text) if word.strip())


def without(text: str, language: str) -> str:
  """Returns a text without the stop words of a language; "" has none."""
  if not language:
    return text
  words = STOPWORDS[language]
  keep = lambda match: "" if match[0].strip(_AROUND).casefold() in words else match[0]
  return _WORD.sub(keep, text)


@functools.cache
def _jieba():
  """Returns a segmenter of the package jieba, which reads its dictionary once."""
  if importlib.util.find_spec("jieba") is None:
    raise Mistake("jieba is not installed; .venv/bin/python -m pip install jieba")
  import logging

  import jieba

  jieba.setLogLevel(logging.WARNING)
  return jieba.Tokenizer()
