"""The verbs, each a file that `python -m experiments.VERB` runs."""

import os
import signal
import sys

# A config names the types of its run; for all else of the user's this stays as it is.
if "JAX_ENABLE_X64" in os.environ:
  os.environ["JAX_ENABLE_X64"] = "0"


def interrupted(number, frame):
  """Handles Ctrl-C while a verb is being imported, before `process.run`."""
  os.write(2, b"\ninterrupted; the same command starts it again\n")
  os._exit(130)


# Under `python -m experiments.VERB`, sys.argv is ["-m", ...] until the verb's file is
# found; for any other program that imports this package it is not.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
  signal.signal(signal.SIGINT, interrupted)
