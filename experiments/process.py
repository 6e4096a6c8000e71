"""The frame of every verb: parses flags, ends a Mistake with a line and exit code 2."""

import codecs
import contextlib
import dataclasses
import logging as python_logging
import os
import re
import signal
import sys
import threading
import traceback

from absl import app, flags, logging

import experiments
from experiments import config, values
from lm.disk import paths
from lm.errors import Mistake

MISTAKE = 2  # exit code of everything the user can correct
_signal = signal.SIGINT  # that a KeyboardInterrupt stands for


def workdir_flag(help="the run's folder"):
  """Defines --workdir and returns it."""
  return flags.DEFINE_string("workdir", None, help)


def workdirs_flag(help="the runs' folders"):
  """Defines --workdirs, a list or repeated, and returns it; see `folders`."""
  help = f"{help}, separated by commas, or each in a flag of its own"
  return flags.DEFINE_multi_string("workdirs", None, help)


def fields_flags(prefix: str, cls):
  """Defines --PREFIX.NAME for each field of a dataclass; returns the maker of one."""
  define = {int: flags.DEFINE_integer, str: flags.DEFINE_string}
  meanings = values.of_class(cls)
  holders = {
    field.name: define[field.type](
      f"{prefix}.{field.name}", field.default, meanings[field.name]
    )
    for field in dataclasses.fields(cls)
  }
  return lambda: cls(**{name: holder.value for name, holder in holders.items()})


def folders(flag) -> list[str]:
  """Returns the folders of --workdirs; a comma in the name of one is its own."""
  return [
    path.strip()
    for text in flag.value
    for path in ([text] if paths.local(text).exists() else text.split(","))
    if path.strip()
  ]


def text_flag(name: str, default, help):
  """Defines a flag of text in UTF-8, whatever the locale is, and returns it.

  One whose default is a list may be repeated.
  """
  serializer = flags.ArgumentSerializer()
  if isinstance(default, list):
    return flags.DEFINE_multi(_Text(), serializer, name, default, help)
  return flags.DEFINE(_Text(), name, default, help, serializer=serializer)


class _Text(flags.ArgumentParser):
  """A parser that decodes the bytes which the locale's encoding left undecoded."""

  def parse(self, argument):
    try:
      return argument.encode("utf-8", "surrogateescape").decode()
    except UnicodeError as error:
      raise ValueError(f"it is not UTF-8: {error.reason}") from error

  def flag_type(self):
    return "string"


def _open_streams():
  """Makes the standard streams take any text, and any path, in any locale.

  In an ASCII locale (LC_ALL=C) they are UTF-8, as Python has it by default.
  """
  codecs.register_error("lm.any", _any)
  for stream in (sys.stdin, sys.stdout, sys.stderr):
    if stream is not None and codecs.lookup(stream.encoding).name == "ascii":
      stream.reconfigure(encoding="utf-8", errors="surrogateescape")
  for stream in (sys.stdout, sys.stderr):
    if stream is not None:
      stream.reconfigure(errors="lm.any")


def _any(error):
  """Encodes the bytes of a path as they are, a character that is missing as \\u...."""
  text = error.object[error.start : error.end]
  is_bytes = all("\udc80" <= char <= "\udcff" for char in text)
  return codecs.lookup_error("surrogateescape" if is_bytes else "backslashreplace")(
    error
  )


def run(main, *, required=()):
  """Runs `main()` with the flags parsed; never returns. Exits with what it returns.

  A Mistake, an OSError and text that is not UTF-8 are the user's to correct: one line
  and exit code 2; with LM_TRACEBACK set, the traceback. Any other error is a bug of
  ours and keeps its traceback. Ctrl-C, where `main` does not handle it, is one line and
  exit code 130; a closed pipe behind stdout (`| head`) is exit code 141.
  """
  _open_streams()
  # launch.sh starts a verb in the repository; relative paths are those of its caller.
  os.chdir(os.environ.pop("LM_CALLER", "."))
  logging.set_verbosity(logging.WARNING)
  sys.unraisablehook = _unraisable
  python_logging.getLogger("asyncio").addFilter(_is_not_orbax)
  by_module = flags.FLAGS.flags_by_module_dict()
  for flag in [*by_module.get(config.__name__, ()), *by_module.get(__name__, ())]:
    # --help shows what the verb's own file defines, and what is registered like this.
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  app.run(lambda _: _main(main), flags_parser=lambda argv: _parse(argv, required))


def _parse(argv, required):
  if "config" in flags.FLAGS:
    with _exit_codes():
      argv = config.read(argv)
  try:
    rest = flags.FLAGS(argv)
  except SystemExit:  # after --help, which absl counts as a failure
    if config.is_given():
      print(f"\n{config.help_text()}")
    sys.exit(0)
  except flags.UnrecognizedFlagError as error:
    _quit(f"{error}{config.hint(error.flagname)}")
  except (LookupError, AttributeError) as error:
    _quit(values.misspelt(str(error)))
  except (flags.Error, ValueError, TypeError, OSError) as error:
    _quit(_in_words(str(error)))
  if len(rest) > 1:
    _quit(f"unexpected argument {rest[1]!r}; flags look like --name=value")
  is_help = any(flags.FLAGS[name].value for name in ("help", "helpshort", "helpfull"))
  missing = [name for name in required if flags.FLAGS[name].value is None]
  if missing and not is_help:
    _quit(f"--{missing[0]} is missing: {flags.FLAGS[missing[0]].help}")
  return rest


def _in_words(text: str) -> str:
  """Returns absl's line about a flag's value with what was wanted in plain words."""
  kinds = {
    "invalid literal for int": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean argument": "true or false",
  }
  flag = re.match(r"flag --[\w.]+=.*?: ", text)
  wanted = [kind for words, kind in kinds.items() if words in text]
  return f"{flag[0]}wanted {wanted[0]}" if flag and wanted else text


def _main(main):
  with _exit_codes():
    if signal.getsignal(signal.SIGINT) is experiments.interrupted:
      signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main()
    sys.stdout.flush()
  # Background threads (saving, prefetching) have been joined by now.
  sys.exit(code or 0)


def interrupt(number, frame):
  """Handles a signal as Python does Ctrl-C; the exit code is 128 + its number."""
  global _signal
  _signal = number
  raise KeyboardInterrupt


@contextlib.contextmanager
def _exit_codes():
  """Ends the process with one line for what the user can correct, and for Ctrl-C."""
  try:
    yield
  except BrokenPipeError:
    for stream in (1, 2):  # what is still to be flushed goes nowhere
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.exit(141)  # as the shell counts SIGPIPE
  except (Mistake, OSError, UnicodeError) as e:
    if os.environ.get("LM_TRACEBACK"):
      raise
    _quit(e)
  except FloatingPointError as e:
    _quit(e)
  except KeyboardInterrupt as e:
    consequence = str(e) or "the same command starts it again"
    print(f"\ninterrupted; {consequence}", file=sys.stderr)
    sys.exit(128 + _signal)


def _unraisable(unraisable):
  """Handles two kinds of errors that Python cannot raise; the rest as Python does.

  A Ctrl-C that hit a callback of the garbage collector is raised again a moment later.
  After a failed save, which was reported, the writes that were still going on end in
  threads of TensorStore, which would print a page for each.
  """
  if isinstance(unraisable.exc_value, KeyboardInterrupt):
    main = threading.main_thread().ident
    threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
  elif str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _is_not_orbax(record) -> bool:
  """Returns False for those writes, which asyncio logs as "never retrieved"."""
  trace = traceback.extract_tb(record.exc_info[2]) if record.exc_info else ()
  return not any("orbax" in frame.filename for frame in trace)


def _quit(problem):
  """Prints an error in one line and exits with the code MISTAKE."""
  text = str(problem) or type(problem).__name__
  print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
  sys.exit(MISTAKE)
