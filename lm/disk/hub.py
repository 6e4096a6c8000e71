"""Errors of the Hugging Face hub in one line, with the remedy: for models and data.

`huggingface_hub` knows who is logged in (HF_TOKEN, `hf auth login`), goes to another
server (HF_ENDPOINT) and stays offline (HF_HUB_OFFLINE=1).
"""

import contextlib

from lm.errors import Mistake


@contextlib.contextmanager
def explained(name: str, what: str, *, otherwise: str):
  """Raises Mistake for what huggingface_hub raises within a block.

  `name` is "org/name" or "org/name@revision" of what a `what` is ("model"); without a
  network one can do something `otherwise`.
  """
  from huggingface_hub import errors

  repo, _, revision = name.partition("@")
  try:
    yield
  except Mistake:
    raise
  except errors.HFValidationError as error:
    raise Mistake(f"hf:{name} is no name of a {what}: {error}") from error
  except errors.RevisionNotFoundError as error:
    raise Mistake(
      f"hf:{repo} has no revision {revision!r}; wanted a branch, tag or commit"
    ) from error
  except errors.GatedRepoError as error:
    raise Mistake(
      f"hf:{repo} is gated: accept its terms on its page, and log in (hf auth login, "
      "or HF_TOKEN)"
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise Mistake(
      f"hf:{repo} does not exist, or is private: check its name, or log in (hf auth "
      "login, or HF_TOKEN)"
    ) from error
  except Exception as error:  # its transport has no class of errors for all versions
    raise Mistake(
      f"hf:{name} could not be fetched ({_reason(error)}); the same command goes on "
      f"when there is a network; or {otherwise}"
    ) from error


def _reason(error: Exception) -> str:
  """Returns the first line of the error that a chain of them began with."""
  while error.__cause__ or error.__context__:
    error = error.__cause__ or error.__context__
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__
