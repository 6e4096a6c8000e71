"""Marian of Hugging Face, as the OPUS-MT models are: norms behind, sinusoids."""

from lm.stores.hf.config import HfConfig
from lm.stores.hf.families import bart, pegasus

MODEL_TYPES = ("marian",)
FAMILY, PREFIX, IGNORED = bart.FAMILY, bart.PREFIX, bart.IGNORED


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf.require(share_encoder_decoder_embeddings=True)
  return bart.sizes(hf) | pegasus.STYLE | dict(post_norm=True)


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model."""
  hf = bart.relative_to_hf(fields, "marian", "Marian")
  name = "MarianMTModel" if fields["logits_bias"] else "MarianModel"
  return hf | dict(architectures=[name], decoder_vocab_size=fields["vocab"])


def mapping(hf: HfConfig) -> list:
  """Returns the rows of all parameters; some files hold the sinusoids too."""
  return bart.mapping(hf, pegasus.tables(hf, hf.has_tensor(pegasus.TABLE, False)))
