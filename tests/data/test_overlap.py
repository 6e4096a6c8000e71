"""The overlap of two splits."""

from lm.data import overlap


def test_overlap_counts_texts_with_a_common_8_gram():
  train = [
    "One two three, four five six seven eight nine ten.",
    "short text",
    "我很喜欢这本书的内容",
  ]
  heldout = [
    "two THREE four five six seven eight nine",  # 8 words of the first
    "one two three four five six seven and eight",  # 7 in a row
    "short text",
    "short texts",
    "他说我很喜欢这本书的",  # 8 characters of the last
  ]
  assert [overlap.share(train, [text]) for text in heldout] == [1, 0, 1, 0, 1]
  assert overlap.share(train, heldout) == 0.6
