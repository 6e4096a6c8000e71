"""Pairs of sentences from reviews, of which 20 raters took one for clearly better.

Made of the table vader: a sentence rated CLEAR or more is beside one rated -CLEAR or
less, in the order of their hashes, and each is in one pair only. The preference is for
praise and not for good writing: the raters were asked for nothing else.
"""

from lm.data.records import normal
from lm.data.sources._records import hash64
from lm.data.tables import vader

ARGUMENT = vader.ARGUMENT
CLEAR = 2.5  # of the mean ratings, from -4 to 4
HELDOUT_EVERY = 4  # one pair of four is held out, also if more sentences come
PROMPTS = {
  "movies": "A sentence from a review of a film:",
  "tweets": "A message:",
  "amazon": "A sentence from a review of a product:",
  "news": "A sentence from a newspaper's opinion page:",
}


def read(argument: str, *, cache) -> dict:
  """Returns records with "id", "prompt", "chosen", "rejected" and "margin".

  The margin is the difference of the ratings. An id is the ids of both sentences.
  """
  records = vader.read(argument, cache=cache)["train"]
  by_text = {normal(record["text"]): record for record in records}
  ordered = sorted(by_text.items(), key=lambda item: hash64(item[0].encode()))
  praise = [r for _, r in ordered if r["score"] >= CLEAR]
  blame = [r for _, r in ordered if r["score"] <= -CLEAR]
  splits = {"train": [], "heldout": []}
  for number, (better, worse) in enumerate(zip(praise, blame, strict=False)):
    split = "train" if number % HELDOUT_EVERY else "heldout"
    splits[split].append(_pair(better, worse, PROMPTS[argument]))
  return splits


def _pair(better: dict, worse: dict, prompt: str) -> dict:
  return {
    "id": f"{better['id']}-{worse['id']}",
    "prompt": prompt,
    "chosen": f" {better['text']}",
    "rejected": f" {worse['text']}",
    "margin": better["score"] - worse["score"],
  }
