"""Classes of a task: those that are given, or those of the training records."""

from lm.errors import Mistake


def check(names: tuple):
  """Raises Mistake for classes that a user named, unless there are two, each once."""
  if len(set(names)) < len(names) or len(names) == 1:
    raise Mistake(f"task.labels={names}; wanted two classes or more, each once")


def resolved(names: tuple, values: dict, *, column: str, table: str) -> tuple[str, ...]:
  """Returns the classes: `names`, or the sorted values of the training split.

  `values` are the sets of values in each split. Raises Mistake for fewer than two in
  training, and for a value that is no class.
  """
  labels = tuple(map(str, names)) or tuple(sorted(values["train"]))
  for split, present in values.items():
    if others := sorted(present - set(labels)):
      raise Mistake(
        f"{column}={others[0]!r} in split {split!r} is none of the classes "
        f"{', '.join(labels)}; name all of them in task.labels"
      )
  if len(values["train"]) < 2:
    raise Mistake(
      f"column {column!r} of {table} has one class, {labels[0]!r}; wanted two or more"
    )
  return labels
