"""Reads the tokenizer of a folder as its class in transformers does.

Beside tokenizer.json there are SentencePiece's .model (Llama 2, T5, Gemma), WordPiece's
vocab.txt (BERT), and vocab.json with merges.txt (GPT-2, RoBERTa).
"""

import json
from pathlib import Path

from lm.data.tokenizers import (
  added,
  builders,
  classes,
  files,
  languages,
  mapped,
  recipes,
  sentencepiece,
)
from lm.data.tokenizers.tokenizer import token_text
from lm.errors import Mistake

COMPOSED = ("gpt-neox", "qwen2")  # recipes that normalise texts to NFC


def read(file: Path, config: dict):
  """(`tokenizers` object, config) of a file; `config` is that of the files beside it.

  Raises Mistake for a file that is damaged, or of a class with rules of its own.
  """
  name = classes.name_of(config, files.read_json(file.parent / "config.json"))
  if name in mapped.CLASSES:
    inner, config = mapped.read(file, config, name)
    return inner, _whole(config)
  kind = _kind(file, config)
  config = (kind.defaults if kind else {}) | config
  if kind is None:
    return _plain_pieces(file, config)
  if kind.files == "words":
    inner, pieces = builders.word_pieces(_lines(file), config), {}
  elif kind.files == "bytes":
    inner, pieces = _merges(file, kind.recipe, config), {}
  else:
    model, _ = _pieces(file, config)
    inner, pieces = recipes.build(kind.recipe, model, config)
  added.add(inner, config, file.parent)
  builders.add(inner, pieces)
  _surround(inner, kind, config)
  return inner, _whole(config)


def complete(inner, config: dict, folder: Path):
  """(`inner` of a tokenizer.json, config) with what the files beside it say too.

  The file decides how words are split and normalised. The class in `config` decides
  what is around a text where the file does not, and BERT's case and GPT-2's first space
  where these are its settings.
  """
  name = classes.name_of(config, files.read_json(folder / "config.json"))
  _check_code(name, config, folder)
  kind, spec = classes.KINDS.get(name), json.loads(inner.to_str())
  if kind is None or kind.files != _files_of(spec):
    added.add(inner, config, folder)
    return inner, _whole(config)
  config = kind.defaults | config
  normaliser, splitter = spec["normalizer"] or {}, spec["pre_tokenizer"] or {}
  if kind.files == "words" and normaliser.get("type") == "BertNormalizer":
    inner.normalizer = builders.bert_normaliser(config)
  spaced = bool(config.get("add_prefix_space"))
  if kind.files == "bytes" and splitter.get("add_prefix_space") not in (None, spaced):
    splitter["add_prefix_space"] = spaced
    inner = type(inner).from_str(json.dumps(spec))
  added.add(inner, config, folder)
  around = spec["post_processor"] or {"type": "ByteLevel"}
  if kind.around and around["type"] == "ByteLevel":
    _surround(inner, kind, config)
  return inner, _whole(config)


def _files_of(spec: dict) -> str:
  """Returns `Kind.files` for a tokenizer.json; Llama 3 names Llama 2's class."""
  if spec["model"]["type"] == "WordPiece":
    return "words"
  return "bytes" if "ByteLevel" in json.dumps(spec["decoder"]) else "pieces"


def _kind(file: Path, config: dict) -> classes.Kind | None:
  """The kind of a file's class; None for SentencePiece without one."""
  name = classes.name_of(config, files.read_json(file.parent / "config.json"))
  _check_code(name, config, file.parent)
  fitting = "pieces" if file.suffix in (".model", ".spm") else "bytes"
  fitting = "words" if file.name.endswith("vocab.txt") else fitting
  own = (config.get("tokenizer_class") or "").removesuffix("Fast")
  # Where a type of model overrules the class, it says no more than the pieces do.
  for candidate in (name,) if fitting == "pieces" else (name, own):
    kind = classes.KINDS.get(candidate)
    if kind is not None and kind.files == fitting:
      return kind
  if name not in classes.PLAIN:
    raise Mistake(
      f"{file} is of a tokenizer class, {name!r}, that is not read here from such a "
      "file; give a folder with its tokenizer.json"
    )
  if fitting == "pieces":
    return None
  if fitting == "words":
    return classes.KINDS["BertTokenizer"]
  roberta = "cls_token" in config or "sep_token" in config
  return classes.KINDS["RobertaTokenizer" if roberta else "GPT2Tokenizer"]


def _check_code(name: str, config: dict, folder: Path):
  """Raises Mistake for a tokenizer that is a program in its folder."""
  code = config.get("auto_map")
  code = code.get("AutoTokenizer") if isinstance(code, dict) else code
  if code and name not in (*classes.KINDS, *classes.PLAIN[1:]):
    raise Mistake(
      f"{folder} brings its own code for its tokenizer (auto_map in "
      "tokenizer_config.json), which is never run; where tokenizer.json is all of it, "
      "remove auto_map"
    )


def _whole(config: dict) -> dict:
  """`config` for a tokenizer whose tokenizer.json says all."""
  config = {k: v for k, v in config.items() if k != "added_tokens_decoder"}
  return config | {"tokenizer_class": "PreTrainedTokenizerFast"}


def _surround(inner, kind: classes.Kind, config: dict):
  """Has `inner` add the tokens that its class puts around a text."""
  if kind.around:
    roles = config | {"source_token": config.get("src_lang") or languages.ENGLISH}
    tokens = (
      [token_text(roles.get(f"{name}_token")) for name in names.split()]
      for names in kind.around
    )
    builders.between(inner, *tokens, doubled=kind.doubled)
  else:
    builders.surround(
      inner,
      config,
      begins=config.get("add_bos_token", kind.begins),
      ends=config.get("add_eos_token", False),
    )


def _lines(file: Path) -> dict[str, int]:
  """The vocabulary of a file with a token a line."""
  lines = files.read_text(file).split("\n")
  lines = lines[:-1] if lines[-1] == "" else lines
  return {line.rstrip(): i for i, line in enumerate(lines)}


def _merges(file: Path, recipe: str, config: dict):
  """Byte-level BPE of merges.txt and the vocabulary beside it."""
  beside = file.with_name(file.name.replace("merges.txt", "vocab.json"))
  if not (vocab := files.read_json(beside)):
    raise Mistake(
      f"{file} has no {beside.name} beside it, which gives tokens their ids"
    )
  lines = files.read_text(file).split("\n")
  pairs = [tuple(x.split(" ")) for x in lines if x and not x.startswith("#version")]
  options = dict(
    compose=recipe in COMPOSED, spaced=bool(config.get("add_prefix_space"))
  )
  split = builders.SPLITS[recipe if recipe in builders.SPLITS else "gpt-2"]
  try:
    return builders.byte_level(vocab, pairs, *split, **options)
  except Exception as error:  # the library has no more specific class
    raise Mistake(f"{file} does not fit {beside.name}: {error}") from error


def _plain_pieces(file: Path, config: dict):
  """SentencePiece by the file's own rules, as its library reads it."""
  model, named = _pieces(file, config)
  config = {f"{name}_token": text for name, text in named.items()} | config
  inner = builders.pieces(**model, first=config.get("legacy") is False)
  # Text behind an added token has a space before it too, so it is a text of its own.
  added.add(inner, config, file.parent, raw=model["dummy_prefix"])
  kind_of = dict(zip(model["texts"], model["kinds"], strict=True))
  if model["dummy_prefix"] and model["model"] == sentencepiece.BPE:
    kind_of = builders.isolate(inner, kind_of)
  builders.add(inner, kind_of)
  # T5 has no "<s>" and puts "</s>" behind a text; all others put "<s>" before it.
  builders.surround(
    inner,
    config,
    begins=config.get("add_bos_token", "bos" in named),
    ends=config.get("add_eos_token", "bos" not in named),
  )
  return inner, _whole(config)


def _pieces(file: Path, config: dict) -> tuple[dict, dict]:
  """As `sentencepiece.read`, with the texts that `config` gives to pieces."""
  model, named = sentencepiece.read(file)
  texts = model["texts"]
  for id, token in added.numbered(config, file.parent).items():
    if id < len(texts) and token["content"] not in texts:
      texts[id] = token["content"]
  return model, named
