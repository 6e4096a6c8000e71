"""Masks and gaps: the candidates of transformers' fill-mask, and texts put together."""

import numpy as np
import pytest
import torch
import transformers
from hf import noisy

import lm
from lm.data import tokenizers
from lm.data.rows.corrupt.spans import SENTINELS
from lm.errors import Mistake
from lm.generate import fill

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "paris", "is", "the", "of"]
WORDS += ["capital", "france", ",", "and", "##s", "."]
TEXT = "Paris is the [MASK] of [MASK]."


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
  """Returns (a random BertForMaskedLM with its tokenizer, its folder)."""
  folder = tmp_path_factory.mktemp("bert")
  (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
  hf_tokenizer = transformers.BertTokenizer.from_pretrained(folder)
  config = transformers.BertConfig(
    vocab_size=len(WORDS),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=16,
  )
  hf_model = noisy(transformers.BertForMaskedLM(config))
  hf_model.save_pretrained(folder)
  hf_tokenizer.save_pretrained(folder)
  return hf_model, hf_tokenizer, folder


def test_masks_have_the_candidates_of_transformers(bert):
  hf_model, hf_tokenizer, folder = bert
  rows = fill.masks(*lm.load(folder), TEXT, n=4)
  inputs = hf_tokenizer(TEXT, return_tensors="pt")
  with torch.no_grad():
    chances_TV = hf_model(**inputs).logits[0].softmax(-1)
  holes = (inputs["input_ids"][0] == hf_tokenizer.mask_token_id).nonzero()[:, 0]
  assert len(rows) == len(holes) == 2
  for row, hole in zip(rows, holes, strict=True):
    best = chances_TV[hole].topk(4)
    assert [token for token, _ in row] == hf_tokenizer.convert_ids_to_tokens(
      best.indices.tolist()
    )
    np.testing.assert_allclose([x for _, x in row], best.values, rtol=1e-4)


@pytest.mark.parametrize(
  "text, message",
  [
    ("Paris is.", "the text has no mask; wanted [MASK] in it"),
    ("paris " * 15 + "[MASK]", "a text of 18 tokens does not fit the model's context"),
  ],
)
def test_a_text_that_cannot_be_filled(bert, text, message):
  model, params, tokenizer = lm.load(bert[2])
  with pytest.raises(Mistake, match=message.replace("[", r"\[")):
    fill.masks(model, params, tokenizer, text)


def test_models_that_fill_nothing(bert):
  _, _, tokenizer = lm.load(bert[2])
  decoder = lm.model("decoder", preset="llama-tiny", vocab=len(WORDS))
  with pytest.raises(
    Mistake, match="family 'decoder' with head='tokens' fills no masks"
  ):
    fill.masks(decoder, {}, tokenizer, TEXT)
  with pytest.raises(Mistake, match="wanted a model with an encoder"):
    fill.gaps(decoder, {}, tokenizer, TEXT)


def test_gaps_are_filled_in_their_places():
  tokenizer = tokenizers.byte_tokenizer().extended(SENTINELS)
  first, second, third = (tokenizer.id(name) for name in SENTINELS[:3])
  text = "The <extra_id_0> walks in <extra_id_1>, slowly <extra_id_2>."
  parts = [[first], tokenizer.encode(" cute dog"), [second], tokenizer.encode("it ")]
  ids = np.concatenate(parts)
  expected = "The cute dog walks in it, slowly <extra_id_2>."
  assert fill.filled(tokenizer, text, ids) == expected
  assert fill.filled(tokenizer, text, [*ids, third, tokenizer.eos, 65]) == (
    "The cute dog walks in it, slowly ."
  )
  assert fill.has_gaps(tokenizer, text) and not fill.has_masks(tokenizer, text)
  assert not fill.has_gaps(tokenizers.byte_tokenizer(), text)
