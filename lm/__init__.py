"""A language-model codebase in JAX and Flax, from raw text to a served model."""

from lm import generate as generate  # a package that can be called


def load(path, **options):
  """Returns (model, params, tokenizer) of what is at a path; see lm.stores.load."""
  from lm import stores

  return stores.load(path, **options)


def save(path, model, params, tokenizer):
  """Makes a run's folder of a model, such as one of a notebook; see lm.stores.save."""
  from lm import stores

  stores.save(path, model, params, tokenizer)
