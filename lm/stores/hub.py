"""Models by name: "hf:org/name" and "hf:org/name@revision" of the Hugging Face hub.

`huggingface_hub` keeps what it has fetched (HF_HOME). A name whose revision is in its
cache needs no network.
"""

from pathlib import Path

from lm.disk import hub
from lm.errors import Mistake

# What a store reads, and no weights in pickle or of other frameworks.
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
OTHERS = ("*/*.safetensors", "consolidated*", "onnx/*", "openvino/*")


def folder(name: str) -> Path:
  """Returns the folder of the model "org/name" or "org/name@revision".

  Fetches what is not there. Raises Mistake, with the remedy, for a name that does not
  exist or is not open to this user, and for a transfer that fails.
  """
  import huggingface_hub

  model, at, revision = name.partition("@")
  if model.count("/") != 1 or (at and not revision):
    raise Mistake(f"hf:{name}; wanted hf:organisation/name, perhaps with @revision")
  options = dict(allow_patterns=[*FILES], ignore_patterns=[*OTHERS])
  with hub.explained(name, "model", otherwise="give the path of a folder"):
    path = huggingface_hub.snapshot_download(
      model, revision=revision or None, **options
    )
  return Path(path)
