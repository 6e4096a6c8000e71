"""mBART of Hugging Face, of 25 languages and of 50: a BART with norms in front."""

from lm.stores.hf.config import HfConfig
from lm.stores.hf.families import bart

MODEL_TYPES = ("mbart",)
FAMILY, PREFIX, IGNORED = bart.FAMILY, bart.PREFIX, bart.IGNORED
mapping = bart.mapping


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  return bart.config(hf) | dict(post_norm=False)


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  return bart.relative_to_hf(fields, "mbart", "MBart")
