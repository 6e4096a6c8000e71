"""A folder in Hugging Face's layout: its tensors and small files, verified."""

from pathlib import Path

from lm.data.tokenizers.files import NAMES
from lm.disk import json_file
from lm.disk.safetensors import File, Tensor
from lm.errors import Mistake

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Small files that say how a model is used: kept unchanged, and written again on export.
NOTES = (
  "config.json",
  "generation_config.json",
  *NAMES,
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "vocab.json",
  "target.spm",
  "modules.json",
  "sentence_bert_config.json",
  "1_Pooling/config.json",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


class Folder:
  """`config`, and the `tensors` of all shards by name: a source for the engine.

  Raises Mistake for a folder that brings code, has pickles for weights, is quantised,
  or whose index names files that are missing or outside of it.
  """

  def __init__(self, path, config: dict):
    self.path = Path(path)
    self.config = config
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
    self._weight_map = self._read_index()
    self.files = {name: File(self.path / name) for name in self._file_names()}
    self.tensors: dict[str, Tensor] = {}
    self._file_of = {}
    for name, file in self.files.items():
      duplicates = sorted(set(file.tensors) & set(self.tensors))
      if duplicates:
        first = self._file_of[duplicates[0]].path
        raise Mistake(f"{duplicates[0]} is in {first} and in {name}")
      self.tensors |= file.tensors
      self._file_of |= dict.fromkeys(file.tensors, file)
    self._check_index()

  def _read_index(self) -> dict[str, str]:
    """Returns {tensor: file} of the index, {} of a folder with one file of weights."""
    if not (self.path / INDEX).is_file():
      return {}
    weight_map = json_file.read(self.path / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
      isinstance(name, str) for name in weight_map.values()
    ):
      raise Mistake(f"{self.path / INDEX} has no weight_map of names")
    return weight_map

  def _file_names(self) -> list[str]:
    """Returns the names of the files with weights."""
    if (self.path / INDEX).is_file():
      names = sorted(set(self._weight_map.values()))
      for name in names:
        if not _is_plain(name):
          raise Mistake(
            f"{self.path / INDEX} names {name!r}; wanted plain names of .safetensors"
          )
      missing = [name for name in names if not (self.path / name).is_file()]
      if missing:
        raise Mistake(
          f"{self.path} lacks {len(missing)} of {len(names)} shards: "
          f"{', '.join(missing[:9])}"
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

  def _check_index(self):
    for name, file in self._weight_map.items():
      if self._file_of.get(name) is not self.files[file]:
        raise Mistake(f"{self.path / INDEX} says {name} is in {file}: it is not")

  def read(self, name: str):
    """Returns a tensor as its file has it, mapped and not yet in memory."""
    return self._file_of[name].read(name)

  def forget(self):
    """Gives the memory of tensors that were read back to the system."""
    for file in self.files.values():
      file.forget()

  def notes(self) -> dict[str, bytes]:
    """Returns the small files by name."""
    paths = {name: self.path / name for name in NOTES}
    return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}

  def paths(self) -> list[Path]:
    """Returns all files that the model is read from."""
    return [self.path / name for name in (*self.files, INDEX, *NOTES)]

  def layout(self) -> dict:
    """Returns where each tensor is: {file: {"metadata": ..., "dtypes": {name: dtype}}}.

    With it the same files can be written again.
    """
    return {
      name: {
        "metadata": file.metadata,
        "dtypes": {name: tensor.dtype for name, tensor in file.tensors.items()},
      }
      for name, file in self.files.items()
    }


def _is_plain(name: str) -> bool:
  return (
    name.endswith(".safetensors") and not set(name) & set("/\\\0") and name[0] != "."
  )
