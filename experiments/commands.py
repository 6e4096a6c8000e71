"""Commands in messages: quoted, with absolute paths, for any folder and any shell."""

import os
import shlex
import sys
from pathlib import Path

from experiments import config
from lm import stores
from lm.data.rows.corrupt import MASK, ROBERTA_MASK

LAUNCHER = config.ROOT / "launch.sh"
GAP = "<extra_id_0>"  # T5's


def command(verb: str, **flags) -> str:
  """Returns the command of a verb; a Path among its flags' values is made absolute."""
  words = [shlex.quote(str(LAUNCHER)), verb]
  for name, value in flags.items():
    value = os.path.abspath(value) if isinstance(value, Path) else value
    words.append(f"--{name}={shlex.quote(str(value))}")
  return " ".join(words)


def again(verb: str) -> str:
  """Returns the command of another verb with all flags of this process."""
  here = shlex.quote(os.getcwd())
  return f"cd {here} && {shlex.join([str(LAUNCHER), verb, *sys.argv[1:]])}"


def after_training(folder, sources) -> str:
  """Returns the last lines of a run: where the results are, and what comes next.

  `folder` is its RunFolder, `sources` are its data.
  """
  rows = [f"results: {folder.path}"]
  files = [p for p in (folder.curves_file, folder.samples_file) if p.exists()]
  rows += [f"  {path}" for path in files]
  start = "To be, or" if any("shakespeare" in name for name in sources) else ""
  verbs = [
    generate(stores.open(folder.path), start),
    command("evaluate", workdir=folder.path),
  ]
  rows += [f"next: {verb}" for verb in verbs if verb]
  return "\n".join(rows)


def generate(store, start: str) -> str:
  """Returns the command that writes a text which begins with `start`.

  An encoder-decoder that learnt gaps fills one, a masked language model a mask, and a
  classifier names classes. Returns "" for a model that does none of these.
  """
  if store.model.output not in ("tokens", "none") or store.config.get("task"):
    return command("generate", workdir=store.path, prompt="A text of yours.")
  traits, tokenizer = store.model.traits, store.tokenizer()
  special = tokenizer.special if tokenizer else ()
  masks = [name for name in (MASK, ROBERTA_MASK) if name in special]
  hole = ""
  if not traits.decodes:
    if store.fields.get("head") != "tokens" or not masks:
      return ""
    hole = masks[0]
  elif traits.source and GAP in special:
    hole = GAP
  return command("generate", workdir=store.path, prompt=f"{start} {hole}".strip())
