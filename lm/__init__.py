"""Language models in JAX and Flax, from raw text to generated text.

  model = lm.model("decoder", preset="llama-tiny", vocab=tokenizer.size)
  params, history = lm.fit(model, None, rows, num_steps=100)
  lm.save("runs/mine", model, params, tokenizer)
  model, params, tokenizer = lm.load("runs/mine")    # or a Hugging Face folder, a .gguf
  print(lm.generate(model, params, tokenizer, "Once upon a time")[0])

Importing `lm` imports nothing else: a function imports its package when it is called.
"""

import importlib
import importlib.util


def model(family: str, *, preset: str = "", vocab: int, **fields):
  """Returns the model of a family; see `lm.models.build`."""
  from lm import models

  return models.build(family, preset=preset, vocab=vocab, **fields)


def load(path, **options):
  """Returns (model, params, tokenizer) from a path; see `lm.stores.load`."""
  from lm import stores

  return stores.load(path, **options)


def save(path, model, params, tokenizer):
  """Writes a model trained elsewhere as a run's folder; see `lm.stores.save`."""
  from lm import stores

  stores.save(path, model, params, tokenizer)


def fit(model, params, data, **options):
  """Returns (params, metrics of every update); see `lm.train.simple.fit`."""
  from lm.train import simple

  return simple.fit(model, params, data, **options)


def score(model, params, tokenizer, texts):
  """Returns the log-probability of each text; see `lm.generate.score.score`."""
  from lm.generate import score

  return score.score(model, params, tokenizer, texts)


def __getattr__(name: str):
  """Imports a package when it is first named: lm.data, lm.optim, lm.generate(...).

  `lm.generate` is a package, and callable as the function of that name in it.
  """
  if importlib.util.find_spec(f"{__name__}.{name}") is None:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return importlib.import_module(f"{__name__}.{name}")
