"""A file of tab-separated values, whose first line names the columns."""

import csv as standard

from lm.data.tables import csv

ARGUMENT = "a file of tab-separated values, the names of its columns in line 1"


def read(argument: str, *, cache) -> dict:
  """Returns the rows below the first; a quote is a character like any other."""
  options = dict(delimiter="\t", quoting=standard.QUOTE_NONE)
  return {"train": csv.rows(argument, "tsv", **options)}
