"""Blocks of quantised numbers of GGUF files, as llama.cpp makes them.

The `gguf` package quantises to Q8_0 and Q4_0; Q6_K is here. `gguf.quants.dequantize`
reads all of them back.
"""

import numpy as np

SUPER, GROUP = 256, 16  # numbers of a block of Q6_K, and of a group with its own scale
STEPS = (0, *range(-9, 0), *range(1, 10))  # scales to try, in tenths of a step


def quantise(array: np.ndarray, kind: str) -> np.ndarray:
  """Returns float32 rows as the bytes of a kind ("Q8_0"), in rows of uint8.

  The last dimension is in whole blocks.
  """
  import gguf

  if kind == "Q6_K":
    return _q6_k(array)
  return gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])


def _q6_k(array: np.ndarray) -> np.ndarray:
  """Returns blocks of 256: low 4 bits, high 2 bits, 16 scales, the scale of scales."""
  rows = array.reshape(-1, array.shape[-1])
  # Some rows at a time: the search needs 20 times their memory.
  size = max(1, (1 << 20) // rows.shape[1])
  blocks = [_q6_k_blocks(rows[i : i + size]) for i in range(0, len(rows), size)]
  return np.concatenate(blocks).reshape(*array.shape[:-1], -1)


def _q6_k_blocks(rows: np.ndarray) -> np.ndarray:
  groups = rows.astype(np.float32).reshape(-1, SUPER // GROUP, GROUP)
  scales = _scales(groups)
  largest = np.take_along_axis(
    scales, np.abs(scales).argmax(axis=1, keepdims=True), axis=1
  )
  flat = np.abs(largest) < 1e-15  # a block of zeros
  inverse = np.where(flat, 0, np.float32(-128) / np.where(flat, 1, largest))
  whole = np.minimum(np.rint(inverse * scales), 127).astype(np.int8)
  scale = np.where(flat, 0, 1 / np.where(flat, 1, inverse)).astype(np.float16)
  steps = scale.astype(np.float32) * whole  # of each group, as they are read back
  numbers = np.rint(groups / np.where(steps == 0, 1, steps)[..., None])
  numbers = np.where(steps[..., None] == 0, -32, np.clip(numbers, -32, 31)) + 32
  quarters = numbers.astype(np.uint8).reshape(-1, 2, 4, 32)  # of each half of a block
  first, second, third, fourth = np.moveaxis(quarters, 2, 0)
  low = np.stack([first & 15 | (third & 15) << 4, second & 15 | (fourth & 15) << 4], 2)
  high = first >> 4 | second >> 4 << 2 | third >> 4 << 4 | fourth >> 4 << 6
  parts = (low, high, whole.view(np.uint8), scale.view(np.uint8))
  return np.concatenate([part.reshape(len(groups), -1) for part in parts], axis=1)


def _scales(groups: np.ndarray) -> np.ndarray:
  """Returns the scale of each group with the least error, weighted by squares.

  Of 19 around the one that has the largest number at an end of -32 to 31.
  """
  index = np.abs(groups).argmax(axis=-1, keepdims=True)
  largest = np.take_along_axis(groups, index, axis=-1)
  flat = np.abs(largest) < 1e-15
  weights = groups * groups
  best = scale = np.zeros(groups.shape[:-1], np.float32)
  for step in STEPS:
    inverse = -(np.float32(32) + np.float32(0.1) * step) / np.where(flat, 1, largest)
    numbers = np.clip(np.rint(inverse * groups), -32, 31)
    products = np.sum(weights * groups * numbers, axis=-1)
    squares = np.sum(weights * numbers * numbers, axis=-1)
    better = (squares > 0) & (products * products > best * squares)
    fitted = products / np.where(squares > 0, squares, 1)
    scale = np.where(better, fitted, scale)
    best = np.where(better, fitted * products, best)
  return scale
