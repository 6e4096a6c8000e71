"""Keys by which a GGUF file has a tokenizer: the inverse of gguf.py.

Byte-level BPE (GPT-2, Llama 3, Qwen, those learnt here) and SentencePiece's BPE (Llama
2, Gemma) exist there. The way to split words is one of a list by name, scores stand for
SentencePiece's merges, and texts are not normalised: Qwen's files leave NFC out. Where
texts get a space in front, those that begin with one get another, as SentencePiece has
it, and not each class of transformers.
"""

import json

from lm.data.tokenizers import builders, ends, gguf
from lm.data.tokenizers.sentencepiece import (
  BYTE,
  CONTROL,
  NORMAL,
  UNKNOWN,
  UNUSED,
  USER,
)
from lm.errors import Mistake

UNFIT = "a GGUF file has no tokenizer like this one: it {}; write a folder instead"
PROBE = "a"  # a text, to see what comes around it


def fields(tokenizer, vocab: int) -> dict:
  """Returns {key: value} for a model with `vocab` tokens; a tokenizer may be None.

  Raises Mistake for a tokenizer that gives other ids than any in a GGUF file.
  """
  if tokenizer is None:
    return {"tokenizer.ggml.model": gguf.NO_TOKENIZER}
  spec, _ = tokenizer.files
  if spec["model"]["type"] != "BPE":
    raise Mistake(UNFIT.format(f"is a {spec['model']['type']} model, no BPE"))
  texts, kinds = _tokens(tokenizer, vocab, spec["model"])
  own = _byte_level(spec) if tokenizer.byte_level else _pieces(spec, texts, kinds)
  own |= {"tokens": texts, "token_type": kinds}
  own |= _around(tokenizer) | _ids(tokenizer, texts)
  keys = {f"tokenizer.ggml.{name}": value for name, value in own.items()}
  template = tokenizer.chat_template
  return keys | ({"tokenizer.chat_template": template} if template else {})


def _tokens(tokenizer, vocab: int, model: dict) -> tuple[list[str], list[int]]:
  """Returns the text and the kind of each id; a row without a token has a filler."""
  added, special = tokenizer.added, set(tokenizer.special)
  texts, kinds = [], []
  for id in range(vocab):
    text, kind = tokenizer.text_of_id(id), NORMAL
    if not tokenizer.has_token(id):
      text, kind = f"[PAD{id}]", UNUSED
    elif text in special:
      kind = UNKNOWN if text == model["unk_token"] else CONTROL
    elif text in added:
      kind = USER
    elif model["byte_fallback"] and _is_byte(text):
      kind = BYTE
    texts.append(text)
    kinds.append(kind)
  return texts, kinds


def _is_byte(text: str) -> bool:
  return len(text) == 6 and text.startswith("<0x") and text.endswith(">")


def _merges(model: dict) -> list[tuple[str, str]]:
  return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m)
          for m in model["merges"]]  # fmt: skip


def _byte_level(spec: dict) -> dict:
  """Returns the keys of byte-level BPE; Mistake for an unknown way to split words."""
  model, merges = spec["model"], _merges(spec["model"])
  if (spec["normalizer"] or {"type": "NFC"})["type"] != "NFC":
    raise Mistake(UNFIT.format("changes texts before it splits them"))
  split = _split_name(spec, model["ignore_merges"]) if merges else "gpt-2"
  lines = [" ".join(pair) for pair in merges]
  # llama.cpp needs the array, and the `gguf` package writes no empty one.
  return {"model": "gpt2", "pre": split, "merges": lines or [""]}


def _split_name(spec: dict, ignores_merges: bool) -> str:
  """Returns the name of a way to split words: of the same pre-tokenizer."""
  own = _plain(spec["pre_tokenizer"])
  for name, (pattern, digits) in builders.SPLITS.items():
    built = json.loads(builders.byte_level({}, [], pattern, digits).to_str())
    if _plain(built["pre_tokenizer"]) == own and ignores_merges == (
      name in gguf.LLAMA_3
    ):
      return name
  names = ", ".join(builders.SPLITS)
  raise Mistake(UNFIT.format(f"splits words in another way than {names}"))


def _plain(step: dict | None) -> list[dict]:
  """Returns a pre-tokenizer's steps without what changes offsets alone."""
  steps = (step or {}).get("pretokenizers", [step] if step else [])
  return [{k: v for k, v in s.items() if k != "trim_offsets"} for s in steps]


def _pieces(spec: dict, texts: list[str], kinds: list[int]) -> dict:
  """Returns the keys of SentencePiece's BPE; Mistake where scores cannot say it."""
  prefix = _has_prefix(spec)
  usable = {t for t, k in zip(texts, kinds, strict=True) if k in (NORMAL, USER)}
  merges = [pair for pair in _merges(spec["model"]) if "".join(pair) in usable]
  rank_of = {}
  for pair in merges:
    rank_of.setdefault("".join(pair), len(rank_of))
  ranks = [rank_of.get(t, len(rank_of)) if t in usable else 0 for t in texts]
  scores = [-float(rank) for rank in ranks]
  # Of pairs that make the same piece, llama.cpp takes what comes first in a text.
  order = [rank_of["".join(pair)] for pair in merges]
  implied = builders.merges_of(texts, scores, kinds)
  if order != sorted(order) or set(implied) != set(merges):
    raise Mistake(UNFIT.format("has merges that do not follow from scores of pieces"))
  return {
    "model": "llama",
    "pre": "default",
    "scores": scores,
    "add_space_prefix": prefix,
  }


def _has_prefix(spec: dict) -> bool:
  """Returns True if a text gets a space before it; Mistake for any other change."""
  step, before = spec["normalizer"], spec["pre_tokenizer"]
  steps = (step or {}).get("normalizers", [step] if step else [])
  prefix = False
  for step in steps:
    if step == {"type": "Prepend", "prepend": builders.SPACE}:
      prefix = True
    elif step["type"] != "Replace" or step["content"] != builders.SPACE:
      raise Mistake(UNFIT.format("changes texts before it splits them"))
  if before and before["type"] == "Metaspace" and not before["split"]:
    return prefix or before["prepend_scheme"] != "never"
  if before and before.get("pattern") != {"String": " "}:  # no spaces are left
    raise Mistake(UNFIT.format("splits texts before it merges"))
  return prefix


def _around(tokenizer) -> dict:
  """Returns whether bos and eos come around a text; Mistake for other tokens."""
  actual = tokenizer.prompt(PROBE).tolist()
  inner = tokenizer.encode(PROBE).tolist()
  for begins in (False, True):
    for closes in (False, True):
      if actual == [tokenizer.bos] * begins + inner + [tokenizer.eos] * closes:
        return {"add_bos_token": begins, "add_eos_token": closes}
  raise Mistake(UNFIT.format("puts other tokens than bos and eos around a text"))


def _ids(tokenizer, texts: list[str]) -> dict:
  """Returns the ids of special tokens, and of those that end a text besides eos.

  An end of a turn that is known by its text needs no key.
  """
  id_of = {text: id for id, text in enumerate(texts)}
  named = tokenizer.special_tokens
  ids = {key: id_of.get(named.get(f"{name}_token")) for name, key in gguf.NAMES.items()}
  stops = [id for id in sorted(tokenizer.stops - {ids["eos"]}) if id < len(texts)]
  others = [id for id in stops if texts[id] not in ends.TURN_ENDS]
  if len(others) > 2:
    raise Mistake(UNFIT.format(f"ends texts with {len(others) + 1} tokens"))
  ids |= dict(zip(("eot", "eom"), others, strict=False))
  return {f"{name}_token_id": id for name, id in ids.items() if id is not None}
