"""Tracer that compares suffixes of names with shapes: `x_BTD` has three dimensions.

`with checked("lm/"): jax.eval_shape(model.apply, ...)` looks at every local of the
functions of lm/ that run inside. A name that ends in letters of the alphabet must have
that rank, and in one call of a function every letter must have one size throughout: a
sequence cut to its last position is no longer T, so it needs another letter or `_B1D`.
"""

import contextlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def checked(folder: str, *, root=ROOT):
  """Traces the block; raises AssertionError at its end, one line a wrong suffix.

  Yields the set of names that were compared, as "file:function:name"; assert that it
  is not empty. Only the thread that enters is traced.
  """
  prefix = f"{pathlib.Path(root, folder).resolve()}/"
  names, mismatches, before = set(), {}, sys.gettrace()

  def calls(frame, event, arg):
    path = frame.f_code.co_filename
    if event != "call" or not path.startswith(prefix):
      return None
    location = f"{pathlib.Path(path).relative_to(root)}:{frame.f_code.co_name}"
    sizes, last_values = {}, {}

    def lines(frame, event, arg):
      for name, value in frame.f_locals.items():
        if last_values.get(name) is not value:
          last_values[name] = value
          _look(location, name, value, sizes, names, mismatches)
      return lines

    return lines

  sys.settrace(calls)
  try:
    yield names
  finally:
    sys.settrace(before)
  if mismatches:
    raise AssertionError("names that lie about their shape:\n" + "\n".join(mismatches))


def _look(location, name, value, sizes, names, mismatches):
  letters, shape = name.rpartition("_")[2], getattr(value, "shape", None)
  if name == letters or not (letters.isalpha() and letters.isupper()):
    return
  if not isinstance(shape, tuple):
    return
  names.add(f"{location}:{name}")
  if len(shape) != len(letters):
    mismatches[f"{location}: {name} has rank {len(shape)}, shape {shape}"] = None
    return
  for letter, size in zip(letters, shape, strict=True):
    known_size, first = sizes.setdefault(letter, (size, name))
    if known_size != size:
      mismatches[
        f"{location}: {name} has {letter}={size}, and {first} has {letter}={known_size}"
      ] = None
