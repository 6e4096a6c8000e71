"""Short English texts with the mean sentiment of 20 raters, from -4 to 4.

Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis
of Social Media Text", as the package vaderSentiment carries them (MIT). The sentences
about films are those of Pang and Lee's collection, of which SST is made as well: a
model trained on one must not be tested on the other.
"""

import io
import tarfile

from lm.data.sources import packages
from lm.errors import one_of

KINDS = {
  "movies": "movieReviewSnippets_GroundTruth.txt",
  "tweets": "tweets_GroundTruth.txt",
  "amazon": "amazonReviewSnippets_GroundTruth.txt",
  "news": "nytEditorialSnippets_GroundTruth.txt",
}
ARGUMENT = ", ".join(KINDS)
CLEAR = 0.5  # a mean nearer to 0 than this gets no label


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "id", "text", "score" and "label".

  The label is "negative" or "positive", None for a score nearer to 0 than CLEAR.
  """
  name = KINDS[one_of("table vader", argument, KINDS)]
  [archive] = packages.texts("vaderSentiment", cache=cache).values()
  with tarfile.open(fileobj=io.BytesIO(archive)) as files:
    [member] = [m for m in files.getmembers() if m.name.rpartition("/")[2] == name]
    text = files.extractfile(member).read().decode("utf-8", "replace")
  return {"train": [_record(line) for line in text.splitlines() if line]}


def _record(line: str) -> dict:
  name, score, text = line.split("\t", 2)
  score, label = float(score), None
  if abs(score) >= CLEAR:
    label = "positive" if score > 0 else "negative"
  return {"id": name, "text": text, "score": score, "label": label}
