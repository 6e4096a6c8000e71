"""Atomic files and folders: whole or hidden, resumed or begun anew."""

import os

import pytest

from lm.disk import atomic


def begin(target, identity="a", *, done=(), error=None):
  """Makes a folder; returns (names there before, parts done before).

  The block adds a file for each of `done`, then raises `error` if there is one.
  """
  with atomic.folder(target, identity) as (folder, before):
    before_block = sorted(path.name for path in folder.iterdir()), set(before)
    for name in done:
      (folder / name).touch()
      before.add(name)
    (folder / ".x.1.tmp").touch()
    if error:
      raise error
    (folder / ".x.1.tmp").unlink()
  return before_block


def stopped(target, error, identity="a", done=()) -> str:
  with pytest.raises(
    type(error) if not isinstance(error, OSError) else ValueError
  ) as e:
    begin(target, identity, done=done, error=error)
  return str(e.value)


def test_it_goes_on_if_it_is_the_same(tmp_path):
  target, part = tmp_path / "new", tmp_path / ".new.part"
  full = OSError(28, "No space left on device", "some/file")
  assert stopped(target, full) == (
    f"{target} could not be made: No space left on device; the same command starts it "
    "again"
  )
  assert not part.exists()
  goes_on = f"the same command goes on with what is in {part}"
  assert stopped(target, full, done=["x"]).endswith(f"left on device; {goes_on}")
  assert stopped(target, KeyboardInterrupt(), done=["y"]) == goes_on
  with open(part / ".done", "a") as file:
    file.write("z, cut o")
  assert begin(target) == ([".done", "x", "y"], {"x", "y"})
  assert sorted(path.name for path in target.iterdir()) == ["x", "y"]
  assert list(tmp_path.iterdir()) == [target]


def test_it_begins_anew_if_it_is_another(tmp_path):
  target, part = tmp_path / "new", tmp_path / ".new.part"
  for identity in ("b", ""):
    stopped(target, KeyboardInterrupt(), done=["x"])
    assert (part / "x").exists()
    assert begin(target, identity, done=["y"]) == ([".done"], set())
    assert [path.name for path in target.iterdir()] == ["y"]
    target.rename(tmp_path / f"made of {identity}")
  stopped(target, ValueError("wrong"), done=["x"])
  assert not part.exists()


def test_what_a_link_leads_to_stays(tmp_path):
  mine, target = tmp_path / "mine", tmp_path / "new"
  mine.mkdir()
  (mine / "file").write_text("mine")
  (tmp_path / ".new.part").symlink_to(mine)
  begin(target)
  (target / "link").symlink_to(mine)
  atomic.remove(target / "link")
  assert list(target.iterdir()) == []
  target.rmdir()
  stopped(target, KeyboardInterrupt(), done=["x"])
  (tmp_path / ".new.part" / "link").symlink_to(mine)
  begin(target, "b")
  assert list(target.iterdir()) == []
  (tmp_path / "link").symlink_to(target)
  target.rmdir()
  with pytest.raises(ValueError, match="link exists; choose another"):
    begin(tmp_path / "link")
  atomic.remove(tmp_path / "link")
  atomic.remove(tmp_path / "nothing")
  assert list(tmp_path.iterdir()) == [mine]
  assert (mine / "file").read_text() == "mine"


def test_one_at_a_time(tmp_path):
  target = tmp_path / "new"
  with (
    atomic.folder(target),
    pytest.raises(ValueError, match=r"making .*; wait for it"),
  ):
    begin(target)
  with pytest.raises(ValueError, match="new exists; choose another"):
    begin(target)
  assert list(tmp_path.iterdir()) == [target]


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / "file"
  atomic.write(path, b"old")

  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space"):
    atomic.write(path, b"new")
  assert path.read_bytes() == b"old"
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_takes_its_name_when_the_block_ends(tmp_path):
  path = tmp_path / "file"
  atomic.write(path, "na\u00efve")
  with pytest.raises(KeyError), atomic.open(path) as file:
    file.write(b"half")
    raise KeyError
  assert path.read_text("utf-8") == "na\u00efve"
  with atomic.open(path) as file:
    file.write(b"new")
    assert path.read_text("utf-8") == "na\u00efve"
  assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
