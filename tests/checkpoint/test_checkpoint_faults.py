"""Kills, damage, full and read-only disks: the newest good step is restored, aloud."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from checkpoints import ABOUT, abstract_of, assert_same_bits, make_state, saved, words

from lm.checkpoint import Checkpoints

# damage


def mutations(path, rng):
  """Yields (damage, content) of a file: flips, cut, zeros; None where it is gone."""
  content = path.read_bytes()
  offsets = {0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(2))}
  for offset in sorted(offsets):
    flipped = bytearray(content)
    flipped[offset] ^= 1 << rng.randrange(8)
    yield f"flip {offset}", bytes(flipped)
  yield "cut", content[: rng.randrange(len(content))]
  yield "zeros", bytes(len(content))
  yield "gone", None


def test_any_damage_to_any_file_is_noticed(tmp_path):
  """For every file of a step, restore names the file and takes the step before."""
  folder, rng = saved(tmp_path / "run", [1, 2]), random.Random(0)
  expected, abstract = make_state(1), abstract_of(make_state(1))
  files = sorted(p for p in (folder / "2").rglob("*") if p.is_file())
  messages, count = [], 0
  with Checkpoints(folder, say=messages.append) as checkpoints:
    for path in files:
      pristine = path.read_bytes()
      for damage, content in mutations(path, rng):
        path.unlink()
        if content is not None:
          path.write_bytes(content)
        messages.clear()
        step = checkpoints._choose(None, "")
        assert step == 1, (path, damage)
        name = path.relative_to(folder / "2").as_posix()
        assert name in messages[0] and "set aside as 2.damaged" in messages[0], (
          damage,
          messages,
        )
        (folder / "2.damaged").rename(folder / "2")
        path.write_bytes(pristine)
        count += 1
    assert checkpoints._choose(None, "") == 2  # whole again: only damage was refused
    files[-1].write_bytes(b"x")
    actual, step, _ = checkpoints.restore(abstract)
  assert count > 200 and step == 1
  assert messages[-1] == "going on from checkpoint 1, the newest without damage"
  assert_same_bits(actual, expected)


def test_a_file_or_a_folder_of_another_step_is_damage(tmp_path):
  saved(tmp_path, [1, 2, 3])
  shutil.copy(tmp_path / "1" / "checkpoint.json", tmp_path / "2" / "checkpoint.json")
  shutil.rmtree(tmp_path / "3")
  shutil.copytree(tmp_path / "1", tmp_path / "3")
  messages = []
  checkpoints = Checkpoints(tmp_path, say=messages.append)
  _, step, _ = checkpoints.restore(abstract_of(make_state()))
  assert step == 1 and "it is a copy of step 1" in messages[0]
  assert words(tmp_path) == ["1", "2.damaged", "3.damaged"]


def test_a_reader_passes_over_damage_and_leaves_it(tmp_path):
  saved(tmp_path, [1, 2])
  (tmp_path / "2" / "checkpoint.json").write_text("{}")
  messages = []
  reader = Checkpoints(tmp_path, owned=False, say=messages.append)
  _, step, about = reader.restore(abstract_of(make_state()))
  assert (step, about) == (1, ABOUT) and messages
  assert words(tmp_path) == ["1", "2"]


def test_the_second_damage_of_a_step_does_not_hide_the_first(tmp_path):
  for _ in range(2):
    saved(tmp_path, [1, 2])
    (tmp_path / "2" / "SHA256SUMS").write_text("")
    Checkpoints(tmp_path, say=str).restore(abstract_of(make_state()))
  assert words(tmp_path) == ["1", "2.damaged", "2.damaged.2"]


# full and read-only disks


@pytest.fixture
def disk(tmp_path):
  """Yields (a tmpfs of 1 MiB, function to remount it); skips where mount is refused."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = shutil.which("mount")

  def run(*args):
    result = subprocess.run([mount, *args, str(folder)], capture_output=True, text=True)
    if result.returncode:
      pytest.skip(f"cannot mount: {result.stderr.strip()}")

  if mount is None:
    pytest.skip("no mount command")
  run("-t", "tmpfs", "-o", "size=1m", "tmpfs")
  yield folder, run
  subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_costs_no_step(disk, caplog):
  folder, _ = disk
  saved(folder, [1])
  state = {"params": {"w": jax.random.normal(jax.random.key(0), (1 << 19,))}}
  checkpoints = Checkpoints(folder)
  for finish in (checkpoints.wait, lambda: checkpoints.save(3, state, about={})):
    checkpoints.save(2, state, about={})
    with pytest.raises(
      ValueError, match=r"could not save step 2 .*: No space left"
    ) as error:
      finish()
    assert "\n" not in str(error.value)
  assert checkpoints.steps() == [1]
  assert checkpoints.restore(abstract_of(make_state()))[1] == 1
  checkpoints.save(4, make_state(4), about=ABOUT)  # what fits still works
  checkpoints.close()
  Checkpoints(folder)
  assert words(folder) == ["1", "4"]
  assert not caplog.records  # the caller prints the error


def test_a_full_disk_while_digests_are_written(tmp_path, monkeypatch):
  from lm.disk import digest

  def full(folder):
    raise OSError(28, os.strerror(28), str(folder))

  saved(tmp_path, [1])
  with Checkpoints(tmp_path) as checkpoints:
    monkeypatch.setattr(digest, "write", full)
    checkpoints.save(2, make_state(2), about={})
    with pytest.raises(ValueError, match=r"could not save step 2 .*: No space left"):
      checkpoints.wait()
    assert words(tmp_path) == ["1"]
    monkeypatch.undo()
    checkpoints.save(2, make_state(2), about={})
  assert words(tmp_path) == ["1", "2"]


def test_a_disk_that_turns_read_only_is_one_line(disk):
  folder, mount = disk
  checkpoints = Checkpoints(saved(folder, [1]))
  mount("-o", "remount,ro")
  with pytest.raises(ValueError, match=r"could not save step 2 .*: Read-only file sys"):
    checkpoints.save(2, make_state(2), about={})
  with pytest.raises(ValueError, match=r"cannot keep checkpoints in .*permission"):
    Checkpoints(folder)
  reader = Checkpoints(folder, owned=False)
  assert reader.restore(abstract_of(make_state()))[1] == 1


# kill -9


def kill_at(folder, rng):
  """Runs checkpoints.py on `folder` and kills it at a random moment of a save."""
  script = Path(__file__).with_name("checkpoints.py")
  environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
  command = [sys.executable, str(script), str(folder)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
    for _ in range(1 + rng.randrange(3)):
      assert process.stdout.readline() == b"saving\n"
    with pytest.raises(subprocess.TimeoutExpired):
      process.wait(timeout=rng.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL


def test_whenever_it_is_killed_the_newest_step_is_whole(tmp_path):
  rng = random.Random(int(os.environ.get("LM_KILL_SEED", "0")))
  newest = 0
  for _ in range(int(os.environ.get("LM_KILLS", "3"))):
    kill_at(tmp_path, rng)
    reader = Checkpoints(tmp_path, owned=False, say=pytest.fail)
    for step in reader.steps():
      actual, _, about = reader.restore(abstract_of(make_state()), step)
      assert about == {"step": step}
      assert_same_bits(actual, make_state(step))
    assert max(reader.steps(), default=0) >= newest
    newest = max(reader.steps(), default=0)
  assert newest > 0
