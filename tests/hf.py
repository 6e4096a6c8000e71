"""Models of transformers, loaded as ours from the folders that they save."""

import json
import pathlib
import tempfile

import numpy as np
import torch

from lm import stores


def copied(hf_model, **fields):
  """Returns (our model, params) of a transformers model.

  `fields` are fields of our model that a config.json does not hold.
  """
  with tempfile.TemporaryDirectory() as folder:
    hf_model.save_pretrained(folder)
    if "scaling" in fields:  # by a rule that lm.stores does not read
      path = pathlib.Path(folder, "config.json")
      config = json.loads(path.read_text())
      config["rope_parameters"]["rope_type"] = "default"
      path.write_text(json.dumps(config))
    model, params, _ = stores.load(folder, **fields)
    return model, params


def noisy(hf_model, seed=0):
  """Adds noise to the weights (zeros and ones hide mistakes); returns the model."""
  torch.manual_seed(seed)
  with torch.no_grad():
    for weight in hf_model.parameters():
      if weight.requires_grad:  # sinusoids stay as they are
        weight += 0.2 * torch.randn_like(weight)
  return hf_model.eval()


def logits(hf_model, tokens_BT) -> np.ndarray:
  """Returns logits_BTV of a transformers model."""
  with torch.no_grad():
    return hf_model(torch.from_numpy(np.asarray(tokens_BT, np.int64))).logits.numpy()
