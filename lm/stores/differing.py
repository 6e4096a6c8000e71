"""The values in which two configs differ."""

import json


def differing(old: dict, new: dict, free=()) -> list[tuple]:
  """Returns (key, old value, new value) of the values in which two configs differ.

  Keys are flat: "optim.lr". `free` lists keys ("num_steps") or whole groups ("eval")
  that may differ. A value that is absent is None in them, and is equal to "".
  """
  filled = lambda value: "" if value is None else value
  old, new = _flat(old), _flat(json.loads(json.dumps(new)))  # tuples are lists on disk
  return [
    (key, old.get(key), new.get(key))
    for key in sorted(old | new)
    if filled(old.get(key)) != filled(new.get(key))
    and not any(f"{key}.".startswith(f"{name}.") for name in free)
  ]


def _flat(tree: dict, prefix="") -> dict:
  flat = {}
  for key, value in tree.items():
    name = f"{prefix}{key}"
    flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
  return flat
