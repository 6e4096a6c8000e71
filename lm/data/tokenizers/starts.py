"""The ids that an encoder-decoder begins and ends its texts with, and those it avoids.

Files of models that summarise and translate name them, generation_config.json before
config.json:

  decoder_start_token_id   start: is read before the first token
  forced_bos_token_id      first: is the first token, whatever the model says
  forced_eos_token_id      last: is the last token of a text that its limit ends
  bad_words_ids            never: no token is one of these (Marian's padding); words of
                           several ids are not avoided
"""

from pathlib import Path

from lm.errors import Mistake

KEY = "decoding"  # of our tokenizer_config.json: Hugging Face has none
NAMES = {
  "decoder_start_token_id": "start",
  "forced_bos_token_id": "first",
  "forced_eos_token_id": "last",
}
AVOIDED = "bad_words_ids"


def named(folder: Path, generation: dict, model: dict) -> dict:
  """Returns {KEY: {"start": 2, "never": [1], ...}} of a folder, {} without such ids.

  `generation` and `model` are the contents of its generation_config.json and
  config.json; where the former is there, the latter counts for the start alone. Raises
  Mistake for what is no id.
  """
  values = dict(generation or model)
  start = "decoder_start_token_id"
  if values.get(start) is None:
    values[start] = model.get(start)
  ids = {}
  for name, ours in NAMES.items():
    value = values.get(name)
    if value is not None:
      ids[ours] = _id(folder, name, value[0] if _is_single(value) else value)
  never = [word[0] for word in values.get(AVOIDED) or () if _is_single(word)]
  ids |= {"never": [_id(folder, AVOIDED, id) for id in never]} if never else {}
  return {KEY: ids} if ids else {}


def _is_single(value) -> bool:
  return isinstance(value, list) and len(value) == 1


def _id(folder: Path, name: str, value) -> int:
  if type(value) is not int or value < 0:
    raise Mistake(f"{folder} has {name}={value!r} in a config; wanted an id")
  return value


def to_hf(decoding: dict) -> dict:
  """Returns the fields of a config.json for the ids that `named` returned."""
  fields = {name: decoding[ours] for name, ours in NAMES.items() if ours in decoding}
  never = [[id] for id in decoding.get("never", ())]
  return fields | ({AVOIDED: never} if never else {})
