"""A language-model codebase in JAX and Flax, from raw text to a served model."""


def load(path, **options):
  """(model, params, tokenizer) of a run's folder; see lm.workdir.load."""
  from lm import workdir

  return workdir.load(path, **options)
