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
  record = dict(examples[index])
  for column, value in record.items():
    if column in names:
      # GLUE marks the hidden labels of a test split with -1.
      record[column] = names[column][int(value)] if int(value) >= 0 else None
    elif isinstance(value, bytes):
      record[column] = value.decode()
    elif np.ndim(value) == 0:
      record[column] = np.asarray(value).item()
  return record
