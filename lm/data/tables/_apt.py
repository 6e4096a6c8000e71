"""Indexes and packages that apt-get fetches into a folder of ours, and installs not."""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from lm.errors import Mistake

# Read behind this machine's own settings, of which some turn languages off, and others
# run programs after an update.
SETTINGS = """\
#clear APT::Update;
#clear Acquire::Languages;
Acquire::Languages {{ {languages} }};
Acquire::GzipIndexes "false";
APT::Update::Error-Mode "any";
"""
PATHS = """\
Dir::Etc::parts "{folder}/parts";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
"""


@contextlib.contextmanager
def indexes(languages):
  """A temporary folder with the index files of this machine's sources, as plain text.

  `languages` are those of the descriptions. The system's own indexes stay as they are,
  and no rights are needed. Raises Mistake without apt-get and for what it reports.
  """
  with _updated(languages) as (folder, _):
    yield folder / "lists"


@contextlib.contextmanager
def unpacked(packages):
  """A temporary folder with the files of some packages; otherwise as `indexes`."""
  with _updated(("none",)) as (folder, run):
    run("apt-get", "download", "--quiet", *packages)
    for path in sorted(folder.glob("*.deb")):
      run("dpkg-deb", "--extract", path.name, "files")
    yield folder / "files"


@contextlib.contextmanager
def _updated(languages):
  """(a temporary folder with fresh indexes, a function that runs a command in it)."""
  if shutil.which("apt-get") is None:
    raise Mistake(
      "this table is made of what apt-get fetches, and there is no apt-get; make it on "
      "a Debian system, and copy its folder in the cache"
    )
  with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch)
    folder.chmod(0o755)  # apt-get of root downloads as another user
    for name in ("parts", "lists/partial", "cache/archives/partial"):
      (folder / name).mkdir(parents=True)
    for path in _settings_of_system():
      shutil.copy(path, folder / "parts")
    listed = " ".join(f'"{language}";' for language in languages)
    (folder / "parts" / "zzz-languages").write_text(SETTINGS.format(languages=listed))
    (folder / "apt.conf").write_text(PATHS.format(folder=folder))
    run = functools.partial(_run, folder)
    run("apt-get", "update", "--quiet")
    yield folder, run


def _run(folder: Path, *command: str):
  environment = os.environ | {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
  options = dict(cwd=folder, env=environment, capture_output=True, text=True)
  done = subprocess.run(command, **options)
  if done.returncode:
    lines = done.stderr.splitlines() or ["no reason given"]
    reason = next((line for line in lines if line.startswith("E:")), lines[-1])
    raise Mistake(f"{' '.join(command[:2])} failed ({reason}); try again online")


def _settings_of_system() -> list[Path]:
  command = ["apt-config", "shell", "PARTS", "Dir::Etc::parts/d"]
  output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  parts = Path(output.strip().partition("=")[2].strip("'"))
  return [path for path in sorted(parts.glob("*")) if path.is_file()]
