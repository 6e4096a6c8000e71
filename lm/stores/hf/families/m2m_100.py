"""M2M-100 and NLLB of Hugging Face: sinusoids behind the row of padding."""

from lm.errors import Mistake
from lm.stores.hf.config import HfConfig
from lm.stores.hf.families import bart

MODEL_TYPES = ("m2m_100",)
FAMILY, PREFIX = bart.FAMILY, bart.PREFIX
IGNORED = r"embed_positions\.weights$"  # the sinusoids, in old files
DEFAULTS = dict(activation_function="relu", scale_embedding=True, pad_token_id=1)
mapping = bart.mapping


def config(hf: HfConfig) -> dict:
  """Returns the flat fields of our model."""
  hf = hf.with_defaults(DEFAULTS)
  pad = hf["pad_token_id"]
  if type(pad) is not int or pad < 0:
    raise Mistake(
      f"pad_token_id={pad!r} in config.json; wanted an id, behind which positions begin"
    )
  return bart.sizes(hf) | dict(
    positions="sinusoids",
    first_position=pad + 1,
    post_norm=False,
    embedding_norm=False,
    logits_bias=False,
  )


def to_hf(fields: dict) -> dict:
  """Returns config.json for the fields of our model.

  Raises Mistake where transformers, whose table has the row of padding, has none.
  """
  first, context = fields["first_position"], fields["context"]
  if first > context + 2:
    raise Mistake(
      f"first_position={first} with context={context}; wanted {first - 2} or more"
    )
  return bart.relative_to_hf(fields, "m2m_100", "M2M100") | dict(
    architectures=["M2M100ForConditionalGeneration"],
    pad_token_id=first - 1,
  )
