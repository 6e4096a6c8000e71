"""Models by name: "hf:org/name" and "hf:org/name@revision" of the Hugging Face hub.

`huggingface_hub` keeps what it has fetched (HF_HOME), knows who is logged in (HF_TOKEN,
`hf auth login`), goes to another server (HF_ENDPOINT) and stays offline
(HF_HUB_OFFLINE=1). A name whose revision is in its cache needs no network.
"""

from pathlib import Path

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
  from huggingface_hub import errors

  model, at, revision = name.partition("@")
  if model.count("/") != 1 or (at and not revision):
    raise Mistake(f"hf:{name}; wanted hf:organisation/name, perhaps with @revision")
  options = dict(allow_patterns=[*FILES], ignore_patterns=[*OTHERS])
  try:
    path = huggingface_hub.snapshot_download(
      model, revision=revision or None, **options
    )
  except errors.HFValidationError as error:
    raise Mistake(f"hf:{name} is no name of a model: {error}") from error
  except errors.RevisionNotFoundError as error:
    raise Mistake(
      f"hf:{model} has no revision {revision!r}; wanted a branch, tag or commit"
    ) from error
  except errors.GatedRepoError as error:
    raise Mistake(
      f"hf:{model} is gated: accept its terms on its page, and log in (hf auth login, "
      "or HF_TOKEN)"
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise Mistake(
      f"hf:{model} does not exist, or is private: check its name, or log in (hf auth "
      "login, or HF_TOKEN)"
    ) from error
  except Exception as error:  # its transport has no class of errors for all versions
    raise Mistake(
      f"hf:{name} could not be fetched ({_reason(error)}); the same command goes on "
      "when there is a network; or give the path of a folder"
    ) from error
  return Path(path)


def _reason(error: Exception) -> str:
  """Returns the first line of the error that a chain of them began with."""
  while error.__cause__ or error.__context__:
    error = error.__cause__ or error.__context__
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__
