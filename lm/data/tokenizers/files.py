"""Reads tokenizers from files: tokenizer.json with what stands beside it.

Other projects' folders are in folders.py, and GGUF in gguf.py, which are imported
when one is read.
"""

import json
from pathlib import Path

from lm.data.tokenizers import ends
from lm.errors import Mistake

NAMES = (
  "tokenizer.json",
  "tokenizer.model",
  "spiece.model",
  "sentencepiece.bpe.model",
  "sentencepiece.model",
  "spm.model",
  "source.spm",
  "vocab.txt",
  "merges.txt",
)


def find(path) -> Path | None:
  """Returns the tokenizer's file in a folder, or the file itself; None without any."""
  path = Path(path)
  files = [path / name for name in NAMES] if path.is_dir() else [path]
  file = next((file for file in files if file.is_file()), None)
  if file is not None and file.suffix == ".gguf":
    from lm.data.tokenizers import gguf

    return file if gguf.is_in(file) else None
  return file


def read(file: Path):
  """(`tokenizers` object, config) of a file that `find` returned.

  The config is that of tokenizer_config.json, or an equivalent one. Raises Mistake for
  a file that is damaged or of an unknown kind.
  """
  from tokenizers import Tokenizer

  if file.suffix == ".gguf":
    from lm.data.tokenizers import gguf

    return gguf.read(file)
  config = _beside(file.parent)
  if file.suffix in (".model", ".spm") or file.name.endswith(
    ("vocab.txt", "merges.txt")
  ):
    from lm.data.tokenizers import folders

    return folders.read(file, config)
  text = read_text(file)
  try:
    inner = Tokenizer.from_str(text)
  except Exception as error:  # the library has no more specific class
    raise Mistake(f"{file} is not a tokenizer.json: {error}") from error
  if _is_whole(inner, config, file.parent):
    return inner, config
  from lm.data.tokenizers import folders

  return folders.complete(inner, config, file.parent)


def _is_whole(inner, config: dict, folder: Path) -> bool:
  """True if a tokenizer.json needs nothing of the files beside it, as ours do."""
  named = [value for key, value in config.items() if key.endswith("_token")]
  texts = [token["content"] if isinstance(token, dict) else token for token in named]
  return (
    config.get("tokenizer_class") == "PreTrainedTokenizerFast"
    and "added_tokens_decoder" not in config
    and not (folder / "added_tokens.json").is_file()
    and all(inner.token_to_id(t) is not None for t in texts if isinstance(t, str))
  )


def _beside(folder: Path) -> dict:
  """tokenizer_config.json, with chat template and stop ids from the files beside it."""
  config = read_json(folder / "tokenizer_config.json")
  if "added_tokens_decoder" not in config:  # with it, older files beside it are stale
    tokens = read_json(folder / "special_tokens_map.json")
    config |= {role: _typed(token) for role, token in tokens.items()}
  template = folder / "chat_template.jinja"
  if template.is_file():
    config["chat_template"] = read_text(template)
  stops, models = set(config.get(ends.KEY, ())), []
  for file in (folder / "generation_config.json", folder / "config.json"):
    models.append(read_json(file))
    stops |= ends.named(file, models[-1])
  config |= {ends.KEY: sorted(stops)} if stops else {}
  if any(models):
    from lm.data.tokenizers import starts

    config |= starts.named(folder, *models)
  if not any((folder / name).exists() for name in ("modules.json", "1_Pooling")):
    return config
  from lm.data.tokenizers import embedding

  return config | embedding.beside(folder, read_json)


def _typed(token):
  """A token of special_tokens_map.json as tokenizer_config.json has it."""
  if isinstance(token, list):
    return [_typed(t) for t in token]
  return {"__type": "AddedToken"} | token if isinstance(token, dict) else token


def read_text(file: Path) -> str:
  """The text of a UTF-8 file; Mistake if it is none."""
  try:
    return file.read_text("utf-8")
  except UnicodeDecodeError as error:
    raise Mistake(f"{file} is not UTF-8, as it should be: {error}") from error


def read_json(file: Path, kind=dict):
  """The JSON object in a file, or list; an empty one without a file; else Mistake."""
  if not file.is_file():
    return kind()
  try:
    value = json.loads(file.read_bytes())
  except (ValueError, RecursionError) as error:
    raise Mistake(f"{file} is no JSON object: {error}") from error
  if not isinstance(value, kind):
    raise Mistake(f"{file} is no JSON {'object' if kind is dict else 'list'}")
  return value
