"""Words apart and stop words left out: what tasks read, and what they refuse."""

import jieba
import pytest

from lm.data import tokenizers
from lm.data.clean import words
from lm.errors import Mistake
from lm.tasks.classify import Task

TEXT = "这家酒店的服务很好,我们非常满意。"


def read(record, **options):
  """Returns the text of a record as the task encodes it."""
  task = Task(train="csv:a.csv", labels=("a", "b"), **options)
  tokenizer = tokenizers.byte_tokenizer()
  row = task.rows([record], tokenizer, seq=128)[0]
  return tokenizer.decode(row["tokens_T"][row["segments_T"] > 0])


def test_words_are_those_of_jieba_with_a_space_between():
  expected = " ".join(jieba.lcut(TEXT))
  assert words.segmented(TEXT, "jieba") == read({"text": TEXT}, segment="jieba")
  assert read({"text": TEXT}, segment="jieba") == expected
  assert read({"text": TEXT}) == TEXT


def test_stop_words_are_left_out_where_words_are_apart():
  options = dict(segment="jieba", stopwords="chinese")
  kept = [w for w in jieba.lcut(TEXT) if w not in words.STOPWORDS["chinese"]]
  assert read({"text": TEXT}, **options).split() == kept
  assert {"的", "我们"} <= set(jieba.lcut(TEXT)) - set(kept)
  assert read({"text": "It was a joy."}, stopwords="english") == "joy."


def test_a_text_of_stop_words_stays_whole():
  assert read({"text": "It was not"}, stopwords="english") == "It was not"


@pytest.mark.parametrize("option", ["segment", "stopwords"])
def test_an_unknown_choice_is_named(option):
  with pytest.raises(Mistake, match=f"task.{option}='klingon'; wanted one of"):
    Task(train="csv:a.csv", **{option: "klingon"})
