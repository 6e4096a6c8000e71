"""Special ids of a tokenizer in the two configs of a folder of Hugging Face."""

from lm.data.rows.corrupt import start_id
from lm.data.tokenizers import starts
from lm.errors import Mistake


def of_config(tokenizer, has_source: bool) -> dict:
  """Returns the ids of config.json, `has_source` for an encoder-decoder's.

  Of the ids that end a text it is a list, if there are several.
  """
  names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "pad"}
  if tokenizer is None:
    return dict.fromkeys(names)
  ids = {key: getattr(tokenizer, name) for key, name in names.items()}
  others = sorted(tokenizer.stops - {tokenizer.eos})
  ends = [id for id in (tokenizer.eos, *others) if id is not None]
  decoding = {"start": start_id(tokenizer)} | tokenizer.decoding if has_source else {}
  return ids | ({"eos_token_id": ends} if others else {}) | starts.to_hf(decoding)


def check_padding(hf: dict, tokenizer):
  """Raises Mistake for a config.json with another padding than the tokenizer's.

  It has one where positions begin behind that id (RoBERTa, M2M-100): transformers gives
  tokens of this id no position of their own, and so the rest of a text other ones.
  """
  skipped = hf.get("pad_token_id")
  if tokenizer is not None and skipped not in (None, tokenizer.pad):
    raise Mistake(
      f"a {hf['model_type']} with first_position={skipped + 1} has pad={skipped}, and "
      f"the tokenizer pad={tokenizer.pad}; wanted a model that was trained with "
      "first_position=pad + 1"
    )


def of_generation(tokenizer) -> dict:
  """Returns generation_config.json; {} where config.json says all that is in it."""
  if not set(tokenizer.decoding) - {"start"}:
    return {}
  ids = of_config(tokenizer, has_source=True)
  return {name: value for name, value in ids.items() if value is not None}
