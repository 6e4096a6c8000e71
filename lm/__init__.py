"""A language-model codebase in JAX and Flax, from raw text to a served model."""


def load(path, **options):
  """(model, params, tokenizer) of a run's folder; see lm.workdir.load."""
  from lm import workdir

  return workdir.load(path, **options)


def save(path, model, params, tokenizer):
  """Makes a run's folder of a model that no command trained; see lm.workdir.save."""
  from lm import workdir

  workdir.save(path, model, params, tokenizer)
