"""A language-model codebase in JAX and Flax, from raw text to a served model."""

from lm import generate as generate  # a package that can be called


def load(path, **options):
  """(model, params, tokenizer) of a run's folder; see lm.stores.run.load."""
  from lm.stores import run

  return run.load(path, **options)


def save(path, model, params, tokenizer):
  """Makes a run's folder of a model that no command trained; see lm.stores.run.save."""
  from lm.stores import run

  run.save(path, model, params, tokenizer)
