"""Alternation of benchmarked programs, each run in its own process."""

import json
import os
import statistics
import subprocess
import sys
from typing import NamedTuple

# Settings of launch.sh, with its reasons; a process reads them before Python starts.
ALLOCATOR = {
  "MALLOC_ARENA_MAX": "1",
  "MALLOC_MMAP_MAX_": "0",
  "MALLOC_TOP_PAD_": "268435456",
  "MALLOC_TRIM_THRESHOLD_": "100000000000",
  "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
SIDES = {
  "ours": ("ours", ALLOCATOR),
  "peer": ("peer", ALLOCATOR),
  "peer, plain malloc": ("peer", {}),
}


class Program(NamedTuple):
  """A module to run with arguments; it prints a line of JSON last: {name: number}."""

  arguments: list[str]
  settings: dict = ALLOCATOR  # of the environment
  python: str = sys.executable


def alternate(module: str, case: list[str], rounds: int) -> dict:
  """Returns {side: {number: median}} of the JSON of `python -m module SIDE *case`."""
  programs = {
    name: Program([side, *case], settings) for name, (side, settings) in SIDES.items()
  }
  return medians(module, programs, rounds)


def medians(module: str, programs: dict[str, Program], rounds: int) -> dict:
  """Returns {name: {number: median}} of programs that are run so many times.

  They take turns, so that a machine that slows down slows all of them.
  """
  results_of = {name: [] for name in programs}
  for _ in range(rounds):
    for name, (arguments, settings, python) in programs.items():
      env = {k: v for k, v in os.environ.items() if k not in ALLOCATOR} | settings
      command = [python, "-m", module, *arguments]
      process = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
      results_of[name].append(json.loads(process.stdout.splitlines()[-1]))
  return {
    name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    for name, runs in results_of.items()
  }


def ratio(medians: dict, key: str) -> float:
  """Returns the seconds of the faster peer over our seconds."""
  peer = min(run[key] for name, run in medians.items() if name != "ours")
  return peer / medians["ours"][key]
