"""Any TFDS dataset with a feature "text", as ArrayRecord files, without TensorFlow.

Data that exist are read from TFDS's own folder ($TFDS_DATA_DIR); others are downloaded
and prepared by TFDS, which for c4 and wikipedia needs Apache Beam and patience.
"""

import functools
import hashlib
import importlib
import json

from lm.data.sources import _records
from lm.errors import Mistake

VERSION = 1
ARGUMENT = "any dataset of TFDS that has a feature 'text'"
# Kinds of TFDS whose datasets are wanted here.
KINDS = ("question_answering", "summarization", "text", "text_simplification")
KINDS += ("translate",)


def documents(name: str, *, cache) -> dict:
  """TFDS's split "train", and "validation" or else "test" as the held-out split.

  Where there is only "train" (wikipedia), every twentieth document is held out.
  """
  builder = _builder(name)
  heldout = [split for split in ("validation", "test") if split in builder.info.splits]
  if heldout:
    return {
      "train": records(builder, "train"),
      "heldout": records(builder, heldout[0]),
    }
  train = records(builder, "train")
  return _records.split(train.items, _records.held_by_place(len(train)), train.read)


def content(name: str, *, cache) -> str:
  """A hash of TFDS's metadata (version, splits, shards) and the sizes of the files.

  The bytes themselves are not read: c4 has 800 GB.
  """
  builder = _builder(name)
  splits = {
    split: [info.num_examples, info.num_bytes, list(info.shard_lengths)]
    for split, info in sorted(builder.info.splits.items())
  }
  files = []
  if builder.data_path.exists():
    files = sorted((f.name, f.stat().length) for f in builder.data_path.iterdir())
  facts = json.dumps([builder.info.full_name, splits, files])
  return hashlib.sha256(facts.encode()).hexdigest()


def records(builder, split: str) -> _records.Records:
  """All examples of one split of a prepared builder."""
  examples = builder.as_data_source(split=split)
  read = functools.partial(_read, examples, f"{builder.name}/{split}")
  return _records.Records(range(len(examples)), read)


def _read(examples, prefix: str, index: int) -> dict:
  example = examples[index]
  name = _str(example["id"]) if "id" in example else f"{prefix}/{index}"
  return {"id": name, "text": _str(example["text"])}


def _str(value) -> str:
  return value if isinstance(value, str) else value.decode()  # str: TFDS's mock data


def _builder(name: str):
  """The builder of a dataset, prepared; Mistake if there is none or it has no text."""
  builder = prepared(name)
  if "text" not in builder.info.features:
    features = ", ".join(builder.info.features)
    raise Mistake(f"TFDS's {name!r} has no feature 'text'; it has: {features}")
  return builder


def prepared(name: str):
  """The builder of a dataset, prepared if it is not yet; Mistake if there is none."""
  import tensorflow_datasets as tfds

  # TFDS 4.9 silently stops registering datasets at the first module that lacks a
  # dependency (h5py), before it reaches these.
  for kind in KINDS:
    importlib.import_module(f"tensorflow_datasets.{kind}")
  try:
    builder = tfds.builder(name, file_format="array_record")
    builder.download_and_prepare()
  except tfds.core.DatasetNotFoundError:
    raise Mistake(
      f"TFDS has no dataset {name!r}; see tensorflow.org/datasets/catalog for its names"
    ) from None
  except Exception as error:  # TFDS has no class for what a download can raise
    reason = str(error).strip().splitlines() or [type(error).__name__]
    raise Mistake(
      f"TFDS could not prepare {name!r} ({reason[0]}); prepare it where there is a"
      f" network (tfds build {name} --file_format=array_record) and set TFDS_DATA_DIR"
    ) from error
  return builder
