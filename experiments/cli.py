"""How every verb starts: flags are parsed, mistakes become one line and exit code 2."""

import os
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

MISTAKE = 2  # exit code of everything the user can mend


def config_flag():
  """Defines --config, a locked ConfigDict; returns the holder to read it from."""
  return config_flags.DEFINE_config_file(
    "config", None, "the experiment: a file such as configs/shakespeare.py"
  )


def config_file() -> str:
  """The file that --config named."""
  return config_flags.get_config_filename(flags.FLAGS["config"])


def workdir_flag(what="the run's folder"):
  return flags.DEFINE_string("workdir", None, what)


def progress(items, total: int):
  """The items, with a bar when there is a terminal to draw it on."""
  return tqdm(items, total=total, disable=None)


def run(main, *, required=()):
  """Runs `main()` with the flags parsed; never returns.

  A ValueError raised by our own code and any OSError are the user's to mend: one line
  and exit code 2. Anything else is ours and keeps its traceback.
  """
  logging.set_verbosity(logging.WARNING)
  app.run(lambda _: _guarded(main), flags_parser=lambda argv: _parse(argv, required))


def _parse(argv, required):
  try:
    rest = flags.FLAGS(argv)
  except (
    flags.Error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OSError,
  ) as e:
    _quit(e)
  if len(rest) > 1:
    _quit(f"unexpected argument {rest[1]!r}; flags look like --name=value")
  helping = any(flags.FLAGS[name].value for name in ("help", "helpshort", "helpfull"))
  missing = [name for name in required if flags.FLAGS[name].value is None]
  if missing and not helping:
    _quit(f"--{missing[0]} is missing: {flags.FLAGS[missing[0]].help}")
  return rest


def _guarded(main):
  try:
    main()
  except (ValueError, OSError) as e:
    if isinstance(e, ValueError) and not _ours(e):
      raise
    if os.environ.get("LM_TRACEBACK"):
      raise
    _quit(e)
  except FloatingPointError as e:
    _quit(e)
  # Background threads (saving, prefetching) have been joined by now.
  sys.exit(0)


def _ours(error) -> bool:
  """Whether an error was raised on a line of this project, that is, on purpose."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  where = traceback.extract_tb(error.__traceback__)[-1].filename
  inside = os.path.relpath(where, root).split(os.sep)[0]
  return inside in ("lm", "experiments", "configs")


def _quit(problem):
  text = str(problem) or type(problem).__name__
  print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
  sys.exit(MISTAKE)
