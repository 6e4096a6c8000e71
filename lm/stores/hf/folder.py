"""A folder as Hugging Face lays it out: what is in it, read without believing it."""

import json
from pathlib import Path

from lm.disk.safetensors import File, Tensor
from lm.errors import Mistake

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Small files that say how a model is to be used: kept as they are, and given back.
NOTES = (
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "tokenizer.model",
  "spiece.model",
  "vocab.txt",
  "vocab.json",
  "merges.txt",
  "modules.json",
  "sentence_bert_config.json",
  "1_Pooling/config.json",
)
NOTE_BYTES = 100_000_000
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


def is_folder(path) -> bool:
  """Whether it has a config.json that names a type of model, as Hugging Face's do."""
  config = Path(path) / "config.json"
  return config.is_file() and "model_type" in read_json(config)


def read_json(path) -> dict:
  """The object in a file; Mistake when there is none."""
  path = Path(path)
  if not path.is_file():
    raise Mistake(f"no file {path}")
  if path.stat().st_size > NOTE_BYTES:
    raise Mistake(f"{path} has over {NOTE_BYTES} bytes; wanted a small JSON file")
  try:
    found = json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise Mistake(f"{path} is damaged: {error}") from error
  if not isinstance(found, dict):
    raise Mistake(f"{path} holds no JSON object")
  return found


class Folder:
  """`config`, and the `tensors` of all shards by name: a source for the engine.

  Raises Mistake for a folder that brings code, has pickles for weights, or whose
  index names files that are missing or outside of it.
  """

  def __init__(self, path):
    self.path = Path(path)
    self.config = read_json(self.path / "config.json")
    if "auto_map" in self.config:
      raise Mistake(
        f"{self.path} brings its own code (auto_map in config.json), which is never "
        "run; take a folder of a type that is known, without auto_map"
      )
    if "quantization_config" in self.config:
      raise Mistake(
        f"{self.path} is quantised (quantization_config in config.json), with scales "
        "beside its weights that are not read here; take the model it was made of"
      )
    self.files = {name: File(self.path / name) for name in self._names()}
    self.tensors: dict[str, Tensor] = {}
    self._file = {}
    for name, file in self.files.items():
      twice = sorted(set(file.tensors) & set(self.tensors))
      if twice:
        raise Mistake(f"{twice[0]} is in {self._file[twice[0]].path} and in {name}")
      self.tensors |= file.tensors
      self._file |= dict.fromkeys(file.tensors, file)
    self._check_index()

  def _names(self) -> list[str]:
    """The files with the weights."""
    if (self.path / INDEX).is_file():
      names = sorted(set(self._weight_map().values()))
      for name in names:
        if not _is_plain(name):
          raise Mistake(
            f"{self.path / INDEX} names {name!r}; wanted plain names of .safetensors"
          )
      gone = [name for name in names if not (self.path / name).is_file()]
      if gone:
        raise Mistake(
          f"{self.path} lacks {len(gone)} of {len(names)} shards: {', '.join(gone[:9])}"
        )
      return names
    if (self.path / WEIGHTS).is_file():
      return [WEIGHTS]
    pickles = [f.name for pattern in PICKLES for f in self.path.glob(pattern)]
    if pickles:
      raise Mistake(
        f"{self.path} has its weights in {pickles[0]}, not in safetensors; such files "
        "run code when read, so convert it with the program that made it"
      )
    raise Mistake(f"{self.path} has no {WEIGHTS} and no {INDEX}")

  def _weight_map(self) -> dict[str, str]:
    found = read_json(self.path / INDEX)
    names = found.get("weight_map")
    if not isinstance(names, dict) or not all(
      isinstance(name, str) for name in names.values()
    ):
      raise Mistake(f"{self.path / INDEX} has no weight_map of names")
    return names

  def _check_index(self):
    if (self.path / INDEX).is_file():
      for name, file in self._weight_map().items():
        if name not in self.tensors or self._file[name] is not self.files[file]:
          raise Mistake(f"{self.path / INDEX} says {name} is in {file}: it is not")

  def read(self, name: str):
    return self._file[name].read(name)

  def forget(self):
    for file in self.files.values():
      file.forget()

  def notes(self) -> dict[str, bytes]:
    """The small files, by name."""
    found = {name: self.path / name for name in NOTES}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}

  def layout(self) -> dict:
    """What is needed to lay the tensors out again: file -> metadata, name -> dtype."""
    return {
      name: {
        "metadata": file.metadata,
        "dtypes": {tensor: told.dtype for tensor, told in file.tensors.items()},
      }
      for name, file in self.files.items()
    }


def _is_plain(name: str) -> bool:
  return (
    name.endswith(".safetensors") and not set(name) & set("/\\\0") and name[0] != "."
  )
