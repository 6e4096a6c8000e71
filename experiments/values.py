"""The values of a config with their meaning, which the dataclasses' comments give."""

import dataclasses
import inspect
import re

from lm import lookup
from lm.data import clean
from lm.letters import AXES
from lm.train.config import Experiment

FIELD = re.compile(r"  (\w+): .*?(?:  # (?P<meaning>.*))?")


def listing(values: dict) -> str:
  """Returns a line "--config.GROUP.NAME=VALUE  meaning" for each value of a config."""
  names = meanings(values)
  rows = [
    (f"--config.{path}={value}", names.get(path, "")) for path, value in flat(values)
  ]
  width = min(40, max(len(flag) for flag, _ in rows))
  return "\n".join(f"  {flag:<{width}}  {text}".rstrip() for flag, text in rows)


def flat(values: dict, prefix=""):
  """Yields (dotted name, value) of a nested dict."""
  for name, value in values.items():
    if isinstance(value, dict):
      yield from flat(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def meanings(values: dict) -> dict[str, str]:
  """Returns {dotted name: comment} of the values of a config."""
  family = lookup.find("lm.models", values["model"]["family"])
  texts = {
    f"mesh.{axis}": "length of this axis; -1 takes what is left" for axis in AXES
  }
  texts |= {"model.family": "a file of lm/models", "model.preset": "of its PRESETS"}
  objective = values["objective"]
  for name in values.get("loss", {}):
    texts[f"loss.{name}"] = f"an option of lm/objectives/{objective}.py"
  if corruption := values["data"].get("corrupt", {}).get("name"):
    cls = lookup.find("lm.data.rows.corrupt", corruption).Corruption
    texts |= of_class(cls, "data.corrupt.")
    texts["data.corrupt.name"] = "a file of lm/data/rows/corrupt"
  if name := values.get("adapt", {}).get("name"):
    from lm import adapt

    texts |= of_class(adapt.kind(name), "adapt.")
    texts["adapt.name"] = "a file of lm/adapt"
  if task := values.get("task", {}).get("name"):
    from lm import tasks

    texts |= of_class(tasks.kind(task), "task.")
    texts["task.name"] = "a file of lm/tasks"
  return (
    of_class(Experiment)
    | of_class(clean.Rules, "data.clean.")
    | of_class(family.Config, "model.", nested=False)
    | texts
  )


def of_class(cls, prefix="", *, nested=True) -> dict[str, str]:
  """Returns {name: comment} of a dataclass and of those in it; flat unless `nested`."""
  comments = _comments(cls)
  texts = {}
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(field.type):
      inner = f"{prefix}{field.name}." if nested else prefix
      texts |= of_class(field.type, inner, nested=nested)
    else:
      texts[f"{prefix}{field.name}"] = comments.get(field.name, "")
  return texts


def _comments(cls) -> dict[str, str]:
  """Returns the comment behind each field of a dataclass, or that above it."""
  texts, above = {}, []
  classes = [c for c in cls.__mro__[::-1] if dataclasses.is_dataclass(c)]
  sources = map(inspect.getsource, classes)
  for line in "\n".join(sources).splitlines():
    if match := FIELD.fullmatch(line):
      texts[match[1]] = match["meaning"] or " ".join(above)
    is_comment = line.startswith("  # ")
    above = [*above, line.removeprefix("  # ")] if is_comment else []
  return texts


def misspelt(text: str) -> str:
  """Returns a line for the error of ml_collections about a key that does not exist."""
  name = re.search(r"'(\w+)", text)
  close = re.search(r'mean "(\w+)"', text)
  hint = f"did you mean {close[1]!r}?" if close else "nothing of that name is read"
  return f"the config has no value {name[1]!r}; {hint}" if name else text
