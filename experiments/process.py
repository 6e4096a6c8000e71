"""How every verb starts: flags are parsed, mistakes become one line and exit code 2."""

import contextlib
import itertools
import logging as python_logging
import os
import re
import runpy
import signal
import sys
import threading
import traceback

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

import experiments
from lm.errors import Mistake

MISTAKE = 2  # exit code of everything the user can mend
SHOWN = "configs/shakespeare.py"  # to those whose own is not right yet


def config_flag(what=f"the experiment, such as {SHOWN}"):
  """Defines --config, a locked ConfigDict; returns the holder to read it from."""
  return config_flags.DEFINE_config_file(
    "config", None, f"{what}; --config.optim.lr=1e-3 changes a value of it"
  )


def config_file() -> str:
  """The file that --config named."""
  return config_flags.get_config_filename(flags.FLAGS["config"])


def workdir_flag(what="the run's folder"):
  return flags.DEFINE_string("workdir", None, what)


def run(main, *, required=()):
  """Runs `main()` with the flags parsed; never returns.

  A Mistake, an OSError and text that is not UTF-8 are the user's to correct: one line
  and exit code 2; with LM_TRACEBACK set, the traceback. Anything else is a bug of ours
  and keeps its traceback. Ctrl-C, where nobody handles it, is one line and 130, and
  output that nobody reads any more (`| head`) ends it with 141.
  """
  logging.set_verbosity(logging.WARNING)
  sys.unraisablehook = _unraisable
  python_logging.getLogger("asyncio").addFilter(_is_no_straggler)
  for flag in flags.FLAGS.flags_by_module_dict().get(__name__, ()):
    # --help shows what the verb's own file defines, and what is registered like this.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  app.run(lambda _: _main(main), flags_parser=lambda argv: _parse(argv, required))


def _parse(argv, required):
  _check_config(argv)
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


def _check_config(argv):
  """Says what is wrong with --config=FILE itself, which its own parser says badly."""
  for flag, after in itertools.pairwise([*argv[1:], ""]):
    name, given, value = flag.partition("=")
    if name in ("--config", "-config") and "config" in flags.FLAGS:
      file, colon, argument = (value if given else after).partition(":")
      if file:
        with _told():
          _check_config_file(file, [argument] if colon else [])


def _check_config_file(file: str, arguments):
  if not os.path.isfile(file):
    raise Mistake(f"no config file {file}; wanted one such as {SHOWN}")
  if not file.endswith(".py"):
    raise Mistake(f"{file} is no config: wanted a .py file with get_config()")
  try:
    made = runpy.run_path(file)
  except SyntaxError as e:
    raise Mistake(f"{e.filename}, line {e.lineno}: {e.msg}") from e
  if not callable(made.get("get_config")):
    raise Mistake(f"{file} has no function get_config(); wanted one as in {SHOWN}")
  found = made["get_config"](*arguments)
  if not isinstance(found, ConfigDict):
    raise Mistake(
      f"get_config() of {file} gives a {type(found).__name__}; wanted a ConfigDict of "
      "ml_collections"
    )


def _main(main):
  with _told():
    if signal.getsignal(signal.SIGINT) is experiments.interrupted:
      signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
    sys.stdout.flush()
  # Background threads (saving, prefetching) have been joined by now.
  sys.exit(0)


@contextlib.contextmanager
def _told():
  """Ends the process with a line for what the user can mend, and for Ctrl-C."""
  try:
    yield
  except BrokenPipeError:
    for stream in (1, 2):  # what is still to be written or flushed goes nowhere
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.exit(141)  # as the shell counts SIGPIPE
  except (Mistake, OSError, UnicodeError) as e:
    if os.environ.get("LM_TRACEBACK"):
      raise
    _quit(e)
  except FloatingPointError as e:
    _quit(e)
  except KeyboardInterrupt as e:
    told = str(e) or "the same command starts it again"
    print(f"\ninterrupted; {told}", file=sys.stderr)
    sys.exit(130)


def _unraisable(unraisable):
  """As Python's own hook, but for two things that have to be told otherwise.

  A Ctrl-C that met a callback of the garbage collector comes again, when that is over.
  What a failed save leaves behind is nothing new: its other writes end in threads of
  TensorStore, which print a page for each because nobody waits for it any more.
  """
  if isinstance(unraisable.exc_value, KeyboardInterrupt):
    main = threading.main_thread().ident
    threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
  elif str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _is_no_straggler(record) -> bool:
  """The latter, for those that asyncio logs: "Task exception was never retrieved"."""
  trace = traceback.extract_tb(record.exc_info[2]) if record.exc_info else ()
  return not any("orbax" in frame.filename for frame in trace)


def _quit(problem):
  text = str(problem) or type(problem).__name__
  print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
  sys.exit(MISTAKE)
