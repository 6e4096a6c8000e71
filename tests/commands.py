"""Parses flags of verbs and runs nothing: a program for tests/laws/test_docs.py.

Reads a list of commands, each [verb, flag...], as JSON on standard input; prints for
each "" or the error of the verb's parser.
"""

import json
import os
import runpy
import sys


def problem(verb: str, flags) -> str:
  """Returns the error of `python -m experiments.VERB FLAGS` in a fork; "" if none."""
  read_end, write_end = os.pipe()
  pid = os.fork()
  if not pid:
    os.dup2(write_end, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # --help
    sys.argv = [f"experiments/{verb}.py", *flags]
    runpy.run_module(f"experiments.{verb}", run_name="__main__", alter_sys=True)
    os._exit(1)  # the verb has no call of app.run
  os.close(write_end)
  with open(read_end, encoding="utf-8") as errors:
    text = errors.read().strip()
  code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
  return "" if code == 0 else text or f"exit code {code}"


if __name__ == "__main__":
  from absl import app

  import lm.train.run  # noqa: F401 - so that no fork imports jax anew

  start = app.run
  # As every verb starts, up to what it does once its flags are parsed.
  app.run = lambda main, **options: start(lambda _: None, **options)
  print(json.dumps([problem(verb, flags) for verb, *flags in json.load(sys.stdin)]))
