"""The verbs, each a file that `python -m experiments.VERB` runs."""

import os
import signal
import sys


def interrupted(number, frame):
  """A Ctrl-C while a verb imports what it needs, before `cli.run`."""
  os.write(2, b"\ninterrupted; the same command starts it again\n")
  os._exit(130)


# What Python has there while it looks for the file; nobody else who imports this does.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
  signal.signal(signal.SIGINT, interrupted)
