"""Any TFDS dataset, read without TensorFlow; its features are the columns."""

import functools

import numpy as np

from lm.data.sources import _records
from lm.data.sources.tfds import prepared

ARGUMENT = "any dataset of TFDS, such as glue/sst2"


def read(argument: str, *, cache) -> dict:
  """Returns TFDS's split "train", and "validation" or else "test" as held out.

  Classes are their names, bytes are text.
  """
  builder = prepared(argument)
  splits = {"train": "train"}
  for name in ("test", "validation"):
    if name in builder.info.splits:
      splits["heldout"] = name
  return {split: _records_of(builder, name) for split, name in splits.items()}


def _records_of(builder, split: str) -> _records.Records:
  examples = builder.as_data_source(split=split)
  names = {
    column: feature.names
    for column, feature in builder.info.features.items()
    if hasattr(feature, "names")
  }
  read = functools.partial(_record, examples, names)
  return _records.Records(range(len(examples)), read)


def _record(examples, names: dict, index: int) -> dict:
  record = {column: _plain(value) for column, value in examples[index].items()}
  for column, named in names.items():
    value = record[column]
    if isinstance(value, list):  # a class for each word
      record[column] = [named[number] for number in value]
    else:  # GLUE marks the hidden labels of a test split with -1
      record[column] = named[value] if value >= 0 else None
  return record


def _plain(value):
  """Returns text for bytes, a list for an array, and the same inside of a dict."""
  if isinstance(value, dict):
    return {name: _plain(inner) for name, inner in value.items()}
  if isinstance(value, bytes):
    return value.decode()
  value = np.asarray(value)
  return value.item() if value.ndim == 0 else [_plain(inner) for inner in value]
