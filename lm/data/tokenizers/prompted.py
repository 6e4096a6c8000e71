"""Tokenizers that begin every text with tokens of its own: those of a soft prompt.

The tokens are special ones behind the vocabulary, which no text becomes; their vectors
are a model's own, see lm/adapt/prompt.py. They are in the post-processor, which puts
special tokens around a text, and in the chat template, so that a tokenizer.json with
them does the same elsewhere.
"""

from lm.data.tokenizers import starts, vocabulary
from lm.data.tokenizers.tokenizer import Tokenizer
from lm.errors import Mistake

NAME = "<|prompt {}|>"
PIECE = "<|prompt|>"  # the name of all of them in a template
TEXTS = {"single": "A", "pair": "AB"}


def begun(tokenizer: Tokenizer, length: int) -> Tokenizer:
  """Returns a copy that begins each text with `length` tokens.

  One that has them already is returned as it is. Raises Mistake for a post-processor of
  an unknown kind.
  """
  if vocabulary.front(tokenizer):
    return tokenizer
  names = [NAME.format(number) for number in range(length)]

  def change(spec: dict, config: dict) -> tuple[dict, dict]:
    id_of = {token["content"]: token["id"] for token in spec["added_tokens"]}
    own = [id_of[name] for name in names]
    prompt = {"id": PIECE, "ids": own, "tokens": names}
    spec["post_processor"] = _begun(spec["post_processor"], prompt)
    decoding = dict(config.get(starts.KEY, {}))
    decoding |= {vocabulary.FRONT: own, "never": [*decoding.get("never", ()), *own]}
    config = config | {starts.KEY: decoding}
    if template := tokenizer.chat_template:
      config["chat_template"] = "".join(names) + template
    return spec, config

  return tokenizer.extended(names, change)


def _begun(processor: dict | None, prompt: dict) -> dict:
  """Returns a post-processor that puts the prompt before all else."""
  kind = processor["type"] if processor else ""
  if kind == "TemplateProcessing":
    piece = {"SpecialToken": {"id": PIECE, "type_id": 0}}
    begun = {name: [piece, *processor[name]] for name in TEXTS}
    special = processor["special_tokens"] | {PIECE: prompt}
    return processor | begun | {"special_tokens": special}
  if kind in ("BertProcessing", "RobertaProcessing"):
    return _begun(_template(processor), prompt)
  if kind == "Sequence":
    *first, last = processor["processors"]
    last = _begun(last, prompt)
    nested = last["processors"] if last["type"] == "Sequence" else [last]
    return processor | {"processors": [*first, *nested]}
  plain = _template(None)
  if kind == "ByteLevel":  # it sets the offsets alone
    processors = [processor, _begun(plain, prompt)]
    return {"type": "Sequence", "processors": processors}
  if kind:
    raise Mistake(
      f"a tokenizer with post_processor {kind!r} cannot begin with a prompt"
    )
  return _begun(plain, prompt)


def _template(processor: dict | None) -> dict:
  """Returns the template of BERT's or RoBERTa's processor; of None, a plain one."""
  is_bert = bool(processor) and processor["type"] == "BertProcessing"
  special = {}
  for role in ("cls", "sep") if processor else ():
    text, id = processor[role]
    special[text] = {"id": text, "ids": [id], "tokens": [text]}

  def token(role, type_id):
    return {"SpecialToken": {"id": processor[role][0], "type_id": type_id}}

  def pieces(name):
    for place, text in enumerate(TEXTS[name]):
      type_id = place if is_bert or not processor else 0
      if processor and place == 0:
        yield token("cls", 0)
      elif processor and not is_bert:
        yield token("sep", 0)  # RoBERTa has two between texts
      yield {"Sequence": {"id": text, "type_id": type_id}}
      if processor:
        yield token("sep", type_id)

  templates = {name: list(pieces(name)) for name in TEXTS}
  template = {"type": "TemplateProcessing", **templates, "special_tokens": special}
  if not processor or is_bert:
    return template
  names = ("trim_offsets", "add_prefix_space")
  offsets = {name: processor[name] for name in names} | {"use_regex": True}
  processors = [{"type": "ByteLevel", **offsets}, template]
  return {"type": "Sequence", "processors": processors}
