"""Locks: one owner at a time, by name; freed by a kill; a line where there are none."""

import errno
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lm.disk import locks

OWNER = re.compile(r"runs/a belongs to process (\d+) on \S+ since 20\d\d-\S+ \S+; wait")


def only(path, **options):
  return locks.only(path, what="runs/a", advice="wait", **options)


def refused(path) -> int:
  """Returns the number of the process that has the lock."""
  with pytest.raises(ValueError) as error, only(path):
    pass
  return int(OWNER.fullmatch(str(error.value))[1])


def test_the_second_is_refused_with_the_first_one_s_name(tmp_path):
  path = tmp_path / "new" / ".lock"
  with only(path):
    assert refused(path) == refused(path) == os.getpid()
  assert not path.exists()
  with pytest.raises(KeyError), only(path):
    raise KeyError
  assert list(path.parent.iterdir()) == []


def test_a_killed_process_leaves_no_lock(tmp_path):
  path = tmp_path / ".lock"
  program = (
    "import sys; from lm.disk import locks\n"
    "with locks.only(sys.argv[1], what='a', advice=''): print(flush=True); input()"
  )
  command = [sys.executable, "-c", program, str(path)]
  environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
  pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  with subprocess.Popen(command, env=environment, **pipes) as process:
    assert process.stdout.readline() == b"\n"
    assert refused(path) == process.pid
    process.kill()
  assert f"process {process.pid} " in path.read_text()
  with only(path):
    assert refused(path) == os.getpid()


def test_a_file_that_goes_while_it_is_locked_is_not_the_lock(tmp_path, monkeypatch):
  """The owner before removes the file just when the next one has opened it."""
  path, take = tmp_path / ".lock", locks.take

  def late(file, **options):
    monkeypatch.undo()
    path.unlink()
    return take(file, **options)

  monkeypatch.setattr(locks, "take", late)
  with only(path):
    assert refused(path) == os.getpid()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_with_a_line(number, tmp_path, monkeypatch):
  def flock(*_):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, "flock", flock)
  lines = []
  with only(tmp_path / "a", log=lines.append), only(tmp_path / "a", log=lines.append):
    pass
  with locks.locked(tmp_path / "b", log=lines.append):
    pass
  assert len(lines) == 3
  assert lines[0] == f"{tmp_path}/a cannot be locked: run one process at a time there"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / "file").touch()
  line = rf"cannot write in {tmp_path}/file: (Not a directory|File exists); choose a"
  for hold in (
    only(tmp_path / "file" / "a"),
    locks.locked(tmp_path / "file/a", log=str),
  ):
    with pytest.raises(ValueError, match=line), hold:
      pass
