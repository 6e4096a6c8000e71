"""Reads the files of tokenizers that came before tokenizer.json.

They are SentencePiece's .model (Llama 2, T5, Gemma); WordPiece's vocab.txt (BERT); and
vocab.json with merges.txt (GPT-2). gguf.py reads those in GGUF files.
"""

from pathlib import Path

from lm.data.tokenizers import builders, files, sentencepiece
from lm.data.tokenizers.tokenizer import token_text
from lm.errors import Mistake

BERT = {
  "unk_token": "[UNK]",
  "cls_token": "[CLS]",
  "sep_token": "[SEP]",
  "pad_token": "[PAD]",
  "mask_token": "[MASK]",
}


def read(file: Path, config: dict):
  """(`tokenizers` object, config) of a file; `config` is that of the files beside it.

  Raises Mistake for a file that is damaged.
  """
  if file.suffix == ".model":
    return _sentencepiece(file, config)
  if file.name == "vocab.txt":
    return _word_pieces(file, BERT | {"do_lower_case": True} | config)
  return _merges(file, config)


def _word_pieces(file: Path, config: dict):
  lines = files.read_text(file).split("\n")
  lines = lines[:-1] if lines[-1] == "" else lines
  vocab = {line.rstrip("\r"): i for i, line in enumerate(lines)}
  return builders.word_pieces(vocab, config), config


def _merges(file: Path, config: dict):
  vocab = files.read_json(file.parent / "vocab.json")
  lines = files.read_text(file).split("\n")
  pairs = [tuple(x.split(" ")) for x in lines if x and not x.startswith("#version")]
  inner = builders.byte_level(vocab, pairs, *builders.SPLITS["gpt-2"])
  ends = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
  config = ends | config
  special = {token_text(config[name]) for name in ends} & set(vocab)
  builders.add(inner, {token: sentencepiece.CONTROL for token in special})
  return inner, config


def _sentencepiece(file: Path, config: dict):
  model = sentencepiece.read(file)
  inner = builders.pieces(**model)
  kind_of = dict(zip(model["texts"], model["kinds"], strict=True))
  specials = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
  specials = {name: text for name, text in specials.items() if text in kind_of}
  for text, kind in kind_of.items():
    if kind == sentencepiece.UNKNOWN:
      specials["unk_token"] = text
  config = specials | config
  _add_beside(inner, file.parent, config)
  # T5 has no "<s>" and puts "</s>" behind a text; all others put "<s>" before it.
  ends = "bos_token" not in specials
  builders.surround(
    inner,
    config,
    begins=config.get("add_bos_token", not ends),
    ends=config.get("add_eos_token", ends),
  )
  return inner, config


def _add_beside(inner, folder: Path, config: dict):
  """Adds the tokens of the files beside the .model, in order of their ids."""
  from tokenizers import AddedToken

  added = config.get("added_tokens_decoder", {})
  if wrong := [id for id in added if not id.isdecimal()]:
    raise Mistake(f"{folder}: added_tokens_decoder has {wrong[0]!r} for an id")
  tokens = []
  for _, token in sorted(added.items(), key=lambda item: int(item[0])):
    flags = {k: token[k] for k in ("special", "lstrip", "rstrip", "normalized")}
    tokens.append(AddedToken(token["content"], **flags))
  if not added:
    id_of = files.read_json(folder / "added_tokens.json")
    tokens = [AddedToken(t, normalized=False) for t in sorted(id_of, key=id_of.get)]
  inner.add_tokens(tokens)
