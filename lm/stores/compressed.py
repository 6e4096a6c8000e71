"""Results of a compression as ordinary run folders."""

import json

from lm import models
from lm.data.tokenizers import vocabulary
from lm.disk import atomic
from lm.errors import Mistake
from lm.stores import run
from lm.stores.run import RunFolder, RunStore


def check(store):
  """Raises Mistake for a model that is quantised already, and one with a prompt."""
  path = store.path
  vocabulary.refuse_prompt(store.tokenizer(), path)
  for entry in store.weights.values():
    raise Mistake(
      f"{path} is quantised already, as {entry['kind']}; name the model that it was "
      "compressed from"
    )


def write(target, store, model, params):
  """Writes a compressed model of a store into the new folder `target`.

  It has what the store's folder has: tokenizer, the files that a model of Hugging Face
  came with, and the config of training, for its data and its task. What a config adapts
  is merged into the parameters. Raises Mistake when `target` exists.
  """
  with atomic.folder(target) as (folder, _):
    run.save(folder, model, params, store.tokenizer())
    made = RunFolder(folder)
    if not isinstance(store, RunStore):
      store.keep(made.kept)
    elif store.folder.kept.is_dir():
      for path in sorted(store.folder.kept.rglob("*")):
        if path.is_file():
          copy = made.kept / path.relative_to(store.folder.kept)
          copy.parent.mkdir(parents=True, exist_ok=True)
          copy.write_bytes(path.read_bytes())
    if store.config:
      config = store.config | {"model": models.fields(model), "adapt": {}}
      atomic.write(made.config_file, json.dumps(config, indent=1) + "\n")
