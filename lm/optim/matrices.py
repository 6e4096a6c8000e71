"""Weights as matrices, by the letters of their dimensions.

The letters show, as a shape cannot, which dimensions only stack matrices (a leading L
for layers, then E for experts), and which are one dimension of features that is cut
into pieces (heads N or K with G and H, gates I with F, groups of heads J with M).
"""

import math

CUT = ("NKGH", "IF", "JM")  # letters that are one dimension when they stand together
# Tables, of which a row belongs to one token, position, class, bucket or tap. Their
# rows are not mixed with each other, so that Adam suits them better than Muon.
TABLES = "VTSCUW"


def num_stacked(letters: str) -> int:
  """Returns the number of leading dimensions that stack matrices: layers, experts."""
  return len(letters) - len(letters.removeprefix("L").removeprefix("E"))


def groups(letters: str) -> list[list[int]]:
  """Returns the indices of the dimensions behind the stacked ones, a list per group.

  Two groups for the matrices "LDNH" and "LDIF", one for the biases "LNH" and "LIF".
  """
  grouped = []
  for i in range(num_stacked(letters), len(letters)):
    neighbours = {letters[i], letters[i - 1]}
    if grouped and any(neighbours <= set(cut) for cut in CUT):
      grouped[-1].append(i)
    else:
      grouped.append([i])
  return grouped


def is_matrix(letters: str) -> bool:
  """Returns True if a weight has more than one group: all but norms and biases."""
  return len(groups(letters)) > 1


def is_hidden(letters: str) -> bool:
  """Returns True if a weight maps features to features: a matrix, and no table."""
  return len(groups(letters)) == 2 and not set(letters) & set(TABLES)


def matrix_shape(letters: str, shape, *, least: int = 0) -> tuple[int, ...]:
  """Returns the shape (*stacked, rows, columns); `shape` itself when it is no matrix.

  A matrix with a side below `least` counts as none.
  """
  grouped = groups(letters)
  if len(grouped) != 2:
    return shape
  rows, columns = (math.prod(shape[i] for i in group) for group in grouped)
  if min(rows, columns) < least:
    return shape
  return (*shape[: num_stacked(letters)], rows, columns)
