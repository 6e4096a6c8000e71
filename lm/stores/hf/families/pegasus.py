"""Pegasus of Hugging Face: norms in front, and sinusoids that its files hold."""

import numpy as np

from lm.stores.hf.config import HfConfig
from lm.stores.hf.families import bart
from lm.stores.hf.mapping import row
from lm.stores.hf.reshape import derived

MODEL_TYPES = ("pegasus",)
FAMILY, PREFIX, IGNORED = bart.FAMILY, bart.PREFIX, bart.IGNORED
TABLE = "embed_positions.weight"
STYLE = dict(positions="sinusoids_as_printed", first_position=0, embedding_norm=False)


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  return bart.sizes(hf) | STYLE | dict(post_norm=False)


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return bart.relative_to_hf(fields, "pegasus", "Pegasus")


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters."""
  return bart.mapping(hf, tables(hf, hf.has_tensor(TABLE, True)))


def tables(hf: HfConfig, is_present: bool) -> list:
  """Returns the rows of the sinusoids, which no parameter of ours is."""
  shape = (hf["max_position_embeddings"], hf["d_model"])
  table = derived(shape, lambda: _sinusoids(*shape))
  parts = ("encoder", "decoder") if is_present else ()
  return [row("", f"{PREFIX}{part}.{TABLE}", table) for part in parts]


def _sinusoids(context: int, width: int) -> np.ndarray:
  """Returns the table TD in float32, of numbers computed in float64."""
  half = np.arange(-(-width // 2))
  angles = np.arange(context)[:, None] / np.power(10_000, 2 * half / width)
  return np.concatenate([np.sin(angles), np.cos(angles)], 1)[:, :width].astype("f4")
