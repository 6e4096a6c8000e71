"""Package indexes that apt-get fetches into a folder of ours, in several languages."""

import contextlib
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
  if shutil.which("apt-get") is None:
    raise Mistake(
      "table debian is made of the indexes that apt-get fetches, and there is no "
      "apt-get; make it on a Debian system, and copy the folder debian of its cache"
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
    environment = os.environ | {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    command = ["apt-get", "update", "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
      lines = done.stderr.splitlines() or ["no reason given"]
      reason = next((line for line in lines if line.startswith("E:")), lines[-1])
      raise Mistake(f"apt-get could not fetch its indexes ({reason}); try again online")
    yield folder / "lists"


def _settings_of_system() -> list[Path]:
  command = ["apt-config", "shell", "PARTS", "Dir::Etc::parts/d"]
  output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  parts = Path(output.strip().partition("=")[2].strip("'"))
  return [path for path in sorted(parts.glob("*")) if path.is_file()]
