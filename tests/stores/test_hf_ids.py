"""Models made here with tokenizers of ours: transformers reads the same from a folder.

Their special ids are not those of the published models.
"""

import jax
import numpy as np
import pytest
import torch
import transformers
from hf_models import logits

from lm import models, stores
from lm.data import tokenizers
from lm.generate import stream
from lm.letters import unbox
from lm.stores.hf import export

TOKENIZERS = {
  "bytes": tokenizers.byte_tokenizer,  # pad is 257
  "bpe": lambda: tokenizers.make("bpe-300", ["a text, and a text"]),  # pad is 1
}
SIZES = dict(width=16, layers=1, heads=2, ff=24, scan=False)
BEHIND_PADDING = {
  "encoder": dict(types=1, context=16, pooler=False),
  "bart": dict(positions="sinusoids", context=256, post_norm=False, scaled=True)
  | dict(embedding_norm=False, logits_bias=False),
}
CLASSES = {"encoder": "RobertaForMaskedLM", "bart": "M2M100ForConditionalGeneration"}
CLASSES["encdec"] = "T5ForConditionalGeneration"


def made(family, tokenizer, **fields):
  """Returns (a model of ours, its parameters, with noise in place of zeros)."""
  model = models.build(family, vocab=tokenizer.size, **SIZES, **fields)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 4), np.int32))["params"])
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [
    leaf + 0.3 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return model, jax.tree.unflatten(tree, noisy)


def exported(folder, family, *args):
  export.write(folder, *args)
  return getattr(transformers, CLASSES[family]).from_pretrained(folder).eval()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_t5_begins_with_the_padding_of_its_tokenizer(name, tmp_path):
  tokenizer = TOKENIZERS[name]()
  model, params = made("encdec", tokenizer, buckets=8, reach=9)
  hf_model = exported(tmp_path, "encdec", model, params, tokenizer)
  prompts = ["a text", "and", "text, a"]
  pieces = stream.generate(
    model, params, tokenizer, prompts, max_tokens=6, temperature=0.0
  )
  for prompt, piece in zip(prompts, pieces, strict=True):
    source = torch.tensor([[*tokenizer.prompt(prompt), tokenizer.eos]])
    options = dict(max_new_tokens=6, do_sample=False, num_beams=1)
    [ids] = hf_model.generate(source, **options).tolist()
    assert ids[0] == tokenizer.pad != 0
    assert ids[1 : len(piece.ids) + 1] == piece.ids.tolist()
  assert stores.open(tmp_path).tokenizer().decoding == {"start": tokenizer.pad}


@pytest.mark.parametrize("family", BEHIND_PADDING)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_positions_begin_behind_the_padding_of_the_tokenizer(family, name, tmp_path):
  """Compares logits of a text with all ids but the padding's."""
  tokenizer = TOKENIZERS[name]()
  fields = BEHIND_PADDING[family] | dict(first_position=tokenizer.pad + 1)
  model, params = made(family, tokenizer, **fields)
  hf_model = exported(tmp_path, family, model, params, tokenizer)
  ids = np.setdiff1d(np.arange(tokenizer.size), [tokenizer.pad])
  tokens_BT = ids[: len(ids) // 8 * 8].reshape(-1, 8).astype(np.int32)
  inputs = {"source_BS": tokens_BT[:, ::-1]} if model.traits.source else {}
  actual_BTV, _ = model.apply({"params": params}, tokens_BT, **inputs)
  expected_BTV = logits(hf_model, tokens_BT)
  np.testing.assert_allclose(actual_BTV, expected_BTV, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", BEHIND_PADDING)
def test_another_padding_would_move_positions(family, tmp_path):
  tokenizer = TOKENIZERS["bytes"]()
  model, params = made(family, tokenizer, **BEHIND_PADDING[family], first_position=2)
  with pytest.raises(ValueError, match=r"first_position=2 has pad=1, and .* pad=257"):
    export.write(tmp_path, model, params, tokenizer)
  # Without the check, the logits of a text with byte 1 differ.
  hf_model = exported(tmp_path / "without", family, model, params, None)
  tokens_BT = np.array([[1, 66, 67, 68]], np.int32)
  inputs = {"source_BS": tokens_BT[:, ::-1]} if model.traits.source else {}
  actual_BTV, _ = model.apply({"params": params}, tokens_BT, **inputs)
  assert np.abs(actual_BTV - logits(hf_model, tokens_BT)).max() > 0.01


def test_the_padding_of_m2m100_has_a_row_of_the_table(tmp_path):
  fields = BEHIND_PADDING["bart"] | dict(first_position=258)
  ids = dict(vocab_size=258, pad_token_id=257, max_position_embeddings=255)
  config = transformers.M2M100Config(**ids, d_model=16)
  with pytest.raises(IndexError):
    transformers.M2M100ForConditionalGeneration(config)
  model, params = made("bart", TOKENIZERS["bytes"](), **fields | dict(context=255))
  with pytest.raises(ValueError, match="first_position=258 with context=255; wanted 2"):
    export.write(tmp_path, model, params, None)
