"""Copies of a run's metrics besides metrics.jsonl: a file each, named by `log.to`.

A file here defines

  PACKAGE                    of Python that it needs besides this one, "" for none
  Writer(folder, *, resume_step, config)
    write(step, values)      values are {"group/name": number}
    close()

`folder` is the run's, `config` the nested dict that it is made of. Steps come in order;
those after `resume_step` may have been written before, by a process that was killed.
Adding a file here adds a value of `log.to`.
"""

import importlib.util

from lm import lookup
from lm.errors import Mistake


def check(names) -> None:
  """Raises Mistake for a name without a file, and for a package that is missing."""
  for name in names:
    package = lookup.find(__name__, name).PACKAGE
    if package and importlib.util.find_spec(package) is None:
      raise Mistake(
        f"log.to names {name!r}, and the package {package} is not installed; "
        f"python -m pip install {package}"
      )


def make(names, folder, *, resume_step: int, config: dict) -> list:
  """Returns the Writer of each name."""
  modules = [lookup.find(__name__, name) for name in names]
  return [m.Writer(folder, resume_step=resume_step, config=config) for m in modules]
