"""How every verb starts: flags are parsed, mistakes become one line and exit code 2."""

import logging as python_logging
import os
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

MISTAKE = 2  # exit code of everything the user can mend


def config_flag(what="the experiment, such as configs/shakespeare.py"):
  """Defines --config, a locked ConfigDict; returns the holder to read it from."""
  return config_flags.DEFINE_config_file(
    "config", None, f"{what}; --config.optim.lr=1e-3 changes a value of it"
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
  and exit code 2. Anything else is ours and keeps its traceback. Ctrl-C, where nobody
  handles it, is one line and 130.
  """
  logging.set_verbosity(logging.WARNING)
  sys.unraisablehook = _except_stragglers
  python_logging.getLogger("asyncio").addFilter(_is_no_straggler)
  for flag in flags.FLAGS.flags_by_module_dict().get(__name__, ()):
    # --help shows what the verb's own file defines, and what is registered like this.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  app.run(lambda _: _guarded(main), flags_parser=lambda argv: _parse(argv, required))


def _parse(argv, required):
  _check_config_file(argv)
  try:
    rest = flags.FLAGS(argv)
  except SystemExit:  # after --help, which absl counts as a failure
    sys.exit(0)
  except (LookupError, AttributeError) as e:
    _quit(_misspelt(str(e)))
  except (flags.Error, ValueError, TypeError, OSError) as e:
    _quit(e)
  if len(rest) > 1:
    _quit(f"unexpected argument {rest[1]!r}; flags look like --name=value")
  helping = any(flags.FLAGS[name].value for name in ("help", "helpshort", "helpfull"))
  missing = [name for name in required if flags.FLAGS[name].value is None]
  if missing and not helping:
    _quit(f"--{missing[0]} is missing: {flags.FLAGS[missing[0]].help}")
  return rest


def _misspelt(text: str) -> str:
  """What ml_collections says of a key that the config lacks, in our words."""
  name = re.search(r"'(\w+)", text)
  near = re.search(r'mean "(\w+)"', text)
  hint = f"did you mean {near[1]!r}?" if near else "add it to the config's file"
  return f"the config has no value {name[1]!r}; {hint}" if name else text


def _check_config_file(argv):
  """Says what is wrong with --config=FILE itself, which its own parser says badly."""
  for flag in argv[1:]:
    name, _, value = flag.partition("=")
    if name.lstrip("-") == "config" and value and "config" in flags.FLAGS:
      file = value.split(":")[0]
      if not os.path.isfile(file):
        _quit(f"no config file {file}; wanted one such as configs/shakespeare.py")
      if not file.endswith(".py"):
        _quit(f"{file} is no config: wanted a .py file with a function get_config()")


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
  except KeyboardInterrupt as e:
    told = str(e) or "the same command starts it again"
    print(f"\ninterrupted; {told}", file=sys.stderr)
    sys.exit(130)
  # Background threads (saving, prefetching) have been joined by now.
  sys.exit(0)


def _ours(error) -> bool:
  """Whether an error was raised on a line of this project, that is, on purpose."""
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  where = traceback.extract_tb(error.__traceback__)[-1].filename
  inside = os.path.relpath(where, root).split(os.sep)[0]
  return inside in ("lm", "experiments", "configs")


def _except_stragglers(unraisable):
  """As Python's own hook, but for what a failed save leaves behind.

  Its other writes end in threads of TensorStore, which print a page for each of them
  because nobody waits for it any more. The failure itself comes as an exception.
  """
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _is_no_straggler(record) -> bool:
  """The same, for those that asyncio logs: "Task exception was never retrieved"."""
  trace = traceback.extract_tb(record.exc_info[2]) if record.exc_info else ()
  return not any("orbax" in frame.filename for frame in trace)


def _quit(problem):
  text = str(problem) or type(problem).__name__
  print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
  sys.exit(MISTAKE)
