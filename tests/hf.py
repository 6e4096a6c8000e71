"""Models of transformers, loaded as ours from the folders that they save."""

import json
import pathlib
import tempfile

import jax
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


def close(actual, expected, limit, *, spread=0.5):
  """Asserts that arrays are equal up to `limit`, and that they are not all alike."""
  assert actual.shape == expected.shape and np.std(expected) > spread
  np.testing.assert_allclose(actual, expected, atol=limit, rtol=limit)


def compare_with_source(hf_model, tokens_BT, source_BS, segments_BS, *, limit):
  """Asserts that logits of an encoder-decoder are those of transformers.

  All at once, and with the last four tokens one by one. `segments_BS` is 0 where the
  source is padding.
  """
  model, params = copied(hf_model)
  arrays = dict(
    input_ids=source_BS, attention_mask=segments_BS, decoder_input_ids=tokens_BT
  )
  with torch.no_grad():
    arrays = {name: torch.from_numpy(x.astype(np.int64)) for name, x in arrays.items()}
    expected_BTV = hf_model(**arrays).logits.numpy()
  source = dict(source_BS=source_BS.astype(np.int32), source_segments_BS=segments_BS)
  run = jax.jit(
    lambda params, *args, **inputs: model.apply({"params": params}, *args, **inputs)
  )
  close(run(params, tokens_BT, **source)[0], expected_BTV, limit)
  B, T = tokens_BT.shape
  cache = model.init_cache(B, T)
  actual_BTV, cache = run(params, tokens_BT[:, :-4], cache=cache, **source)
  close(actual_BTV, expected_BTV[:, :-4], limit)
  for t in range(T - 4, T):
    actual_B1V, cache = run(params, tokens_BT[:, t : t + 1], cache=cache)
    close(actual_B1V[:, 0], expected_BTV[:, t], limit)
