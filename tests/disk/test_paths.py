"""Paths: URLs are refused, and an open folder has a plain path."""

import os
import pwd

import pytest

from lm.disk import paths


@pytest.mark.parametrize("url", ["gs://bucket/run", "file:///x", "s3://b", "hf+x://y"])
def test_a_url_is_no_path(url):
  with pytest.raises(ValueError, match=r"is a URL; wanted a path of this machine"):
    paths.local(url)


@pytest.mark.parametrize(
  "name", ["runs/a", "/mnt/gs://x", "a:/b", "://", "50%25", "a~", "a/~t"]
)
def test_anything_else_is_a_path(name):
  assert paths.local(name) == paths.local(paths.Path(name)) == paths.Path(name)


def test_a_tilde_is_a_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert paths.local("~") == tmp_path
  assert paths.local("~/runs/a") == paths.local(paths.Path("~/runs/a"))
  assert paths.local("~/runs/a") == tmp_path / "runs" / "a"
  name = pwd.getpwuid(os.getuid()).pw_name
  assert paths.local(f"~{name}/a") == paths.Path(pwd.getpwnam(name).pw_dir, "a")
  for name in ("./~", "./~/a", "~nobody9/a"):
    assert paths.local(name) == paths.Path(name)


def test_an_open_folder_has_a_plain_path_also_when_it_moves(tmp_path):
  folder = tmp_path / "a[2]\n\udcff"
  folder.mkdir()
  with paths.Opened(folder) as opened:
    (opened / "file").write_text("text")
    assert folder.joinpath("file").read_text() == "text"
    folder.rename(tmp_path / "b")
    assert opened.joinpath("file").read_text() == "text"
    assert str(opened).replace("/", "").isalnum()
