"""Models of transformers as ours: as they save them, and lm.stores loads them."""

import json
import pathlib
import tempfile

import numpy as np
import torch

from lm import stores


def copied(theirs, **fields):
  """(model, params); `fields` are values of ours that a config.json does not tell."""
  with tempfile.TemporaryDirectory() as folder:
    theirs.save_pretrained(folder)
    if "scaling" in fields:  # by another rule than theirs, which we do not take over
      path = pathlib.Path(folder, "config.json")
      told = json.loads(path.read_text())
      told["rope_parameters"]["rope_type"] = "default"
      path.write_text(json.dumps(told))
    model, params, _ = stores.load(folder, **fields)
    return model, params


def noisy(theirs, seed=0):
  """The same model, with noise on its weights: zeros and ones would hide mistakes."""
  torch.manual_seed(seed)
  with torch.no_grad():
    for weight in theirs.parameters():
      weight += 0.2 * torch.randn_like(weight)
  return theirs.eval()


def logits(theirs, tokens_BT) -> np.ndarray:
  """logits_BTV of a transformers model."""
  with torch.no_grad():
    return theirs(torch.from_numpy(np.asarray(tokens_BT, np.int64))).logits.numpy()
