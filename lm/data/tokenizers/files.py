"""Reads foreign tokenizers from the files that projects publish.

They are tokenizer.json; SentencePiece's .model (Llama 2, T5, Gemma); WordPiece's
vocab.txt (BERT); vocab.json with merges.txt (GPT-2); or a GGUF file.
"""

import json
from pathlib import Path

from lm.data.tokenizers import builders, sentencepiece
from lm.disk.gguf import GgufFile
from lm.errors import Mistake

NAMES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "merges.txt")
BERT = {
  "unk_token": "[UNK]",
  "cls_token": "[CLS]",
  "sep_token": "[SEP]",
  "pad_token": "[PAD]",
  "mask_token": "[MASK]",
}


def found(path) -> Path | None:
  """The tokenizer's file of a folder, or the file itself; None if there is none."""
  path = Path(path)
  files = [path / name for name in NAMES] if path.is_dir() else [path]
  file = next((file for file in files if file.is_file()), None)
  if file is not None and file.suffix == ".gguf":
    return file if "tokenizer.ggml.model" in GgufFile(file).fields else None
  return file


def read(file: Path):
  """(`tokenizers` object, config) of a file that `found` returned.

  The config is that of tokenizer_config.json, or an equivalent one. Raises Mistake for
  a file that is damaged or of an unknown kind.
  """
  from tokenizers import Tokenizer

  if file.suffix == ".gguf":
    return _gguf(file)
  config = _beside(file.parent)
  if file.suffix == ".model":
    return _sentencepiece(file, config)
  if file.name == "vocab.txt":
    return _word_pieces(file, BERT | {"do_lower_case": True} | config)
  if file.name == "merges.txt":
    return _merges(file, config)
  text = _text(file)
  try:
    return Tokenizer.from_str(text), config
  except Exception as error:  # the library has no more specific class
    raise Mistake(f"{file} is not a tokenizer.json: {error}") from error


def _beside(folder: Path) -> dict:
  """tokenizer_config.json, with chat template and stop ids from the files beside it."""
  config = _json(folder / "special_tokens_map.json")
  config |= _json(folder / "tokenizer_config.json")
  template = folder / "chat_template.jinja"
  if template.is_file():
    config["chat_template"] = _text(template)
  ends = _json(folder / "generation_config.json").get("eos_token_id")
  if isinstance(ends, list):
    config["stop_token_ids"] = ends  # our own key: Hugging Face has none
  return config


def _text(file: Path) -> str:
  """The text of a UTF-8 file; Mistake if it is none."""
  try:
    return file.read_text("utf-8")
  except UnicodeDecodeError as error:
    raise Mistake(f"{file} is not UTF-8, as it should be: {error}") from error


def _json(file: Path) -> dict:
  """The JSON object in a file, {} without a file; Mistake for anything else."""
  if not file.is_file():
    return {}
  try:
    return dict(json.loads(file.read_bytes()))
  except (ValueError, TypeError, RecursionError) as error:
    raise Mistake(f"{file} is no JSON object: {error}") from error


def _word_pieces(file: Path, config: dict):
  lines = _text(file).split("\n")
  lines = lines[:-1] if lines[-1] == "" else lines
  vocab = {line.rstrip("\r"): i for i, line in enumerate(lines)}
  return builders.word_pieces(vocab, config), config


def _merges(file: Path, config: dict):
  vocab = _json(file.parent / "vocab.json")
  lines = _text(file).split("\n")
  pairs = [tuple(x.split(" ")) for x in lines if x and not x.startswith("#version")]
  inner = builders.byte_level(vocab, pairs, *builders.SPLITS["gpt-2"])
  ends = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
  config = ends | config
  special = {builders.text(config[name]) for name in ends} & set(vocab)
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
    id_of = _json(folder / "added_tokens.json")
    tokens = [AddedToken(t, normalized=False) for t in sorted(id_of, key=id_of.get)]
  inner.add_tokens(tokens)


def _gguf(file: Path):
  fields = GgufFile(file).fields

  def field(key, default=None):
    return fields.get(f"tokenizer.{key}", default)

  texts, kind = field("ggml.tokens"), field("ggml.model")
  kinds = field("ggml.token_type", [sentencepiece.NORMAL] * len(texts or ()))
  if not texts or len(kinds) != len(texts):
    raise Mistake(f"{file} has no tokens, or not a type for each")
  if kind == "gpt2":
    split = field("ggml.pre", "gpt-2")
    if split not in builders.SPLITS:
      names = ", ".join(builders.SPLITS)
      raise Mistake(f"{file} splits words as {split!r} does; known: {names}")
    pairs = [tuple(pair.split(" ")) for pair in field("ggml.merges", [])]
    vocab = {text: i for i, text in enumerate(texts)}
    inner = builders.byte_level(
      vocab,
      pairs,
      *builders.SPLITS[split],
      ignore_merges=split == "llama-bpe",  # a word that is a token needs no merges
    )
    builders.add(inner, dict(zip(texts, kinds, strict=True)))
  elif kind == "llama":
    inner = builders.pieces(
      texts=texts,
      scores=field("ggml.scores"),
      kinds=kinds,
      model=sentencepiece.BPE,
      dummy_prefix=bool(field("ggml.add_space_prefix", True)),
      squeeze=False,
      charsmap=b"",
    )
  else:
    raise Mistake(f"{file} has a tokenizer of kind {kind!r}; known: gpt2, llama")
  names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
  ids = {name: field(f"ggml.{key}_token_id") for name, key in names.items()}
  config = {f"{name}_token": texts[i] for name, i in ids.items() if i is not None}
  template = field("chat_template")
  config |= {"chat_template": template} if template else {}
  builders.surround(
    inner,
    config,
    begins=field("ggml.add_bos_token", kind == "llama"),
    ends=field("ggml.add_eos_token", False),
  )
  return inner, config
