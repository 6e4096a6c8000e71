"""The ids that end a text: the union of those that any file of a model names.

A model that answers ends its turn with a token of its own (<|im_end|>), which need not
be the eos of its tokenizer. Files name it in several places, and often not in all:

  eos_token              of tokenizer_config.json
  eos_token_id           of generation_config.json and config.json, one or a list
  eos, eot and eom ids   of a GGUF file
  TURN_ENDS              an added token with one of these texts, named or not
  the chat template      the special token behind an answer: `lm.generate.chat.stops`

A document's text never has such a token: text that looks like one stays text.
"""

from pathlib import Path

from lm.errors import Mistake

KEY = "stop_token_ids"  # of our tokenizer_config.json: Hugging Face has none
# As llama.cpp's llama_vocab::impl::load collects special_eog_ids.
TURN_ENDS = frozenset(
  (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|eot|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
  )
)


def named(file: Path, config: dict) -> set[int]:
  """Returns the ids that a config of a model names, the content of `file`.

  Raises Mistake for what is no id.
  """
  value = config.get("eos_token_id")
  ids = value if isinstance(value, list) else [] if value is None else [value]
  if not all(type(id) is int for id in ids):
    raise Mistake(f"{file} has eos_token_id={value!r}; wanted an id or a list of ids")
  return set(ids)
