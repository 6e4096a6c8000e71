"""Encoder-decoder: numbers equal those of transformers' T5, on tiny models."""

import hf
import numpy as np
import pytest
import torch
import transformers
from families import VOCAB, tokens
from transformers.models.t5.modeling_t5 import T5Attention

from lm.nn.positions.relative import buckets

B, T, S = 2, 12, 9
SMALL = dict(
  vocab_size=VOCAB,
  d_model=32,
  d_kv=16,
  d_ff=48,
  num_layers=2,
  num_decoder_layers=3,
  num_heads=4,
  relative_attention_num_buckets=8,
  relative_attention_max_distance=10,
  decoder_start_token_id=0,
  pad_token_id=0,
  eos_token_id=1,
)
FLAVOURS = {
  "v1.0": dict(feed_forward_proj="relu", tie_word_embeddings=True),
  "v1.1": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's


def hf_model_of(flavour):
  config = transformers.T5Config(**SMALL, **FLAVOURS[flavour])
  hf_model = transformers.T5ForConditionalGeneration(config)
  if not config.scale_decoder_outputs:  # untied, as after loading weights
    hf_model.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCAB, SMALL["d_model"]))
  return hf.noisy(hf_model)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_logits_are_those_of_transformers_at_once_and_one_by_one(flavour):
  tokens_BT, source_BS = tokens(B, T), tokens(B, S, seed=1)
  segments_BS = (np.arange(S)[None] < np.array([[S], [5]])).astype(np.int32)
  arrays = (tokens_BT, source_BS, segments_BS)
  hf.compare_with_source(hf_model_of(flavour), *arrays, limit=1e-4)


@pytest.mark.parametrize("count, reach", [(32, 128), (8, 10), (16, 128)])
def test_buckets_are_those_of_transformers(count, reach):
  distance = torch.arange(3 * reach)
  hf_model = T5Attention._relative_position_bucket
  options = dict(bidirectional=False, num_buckets=count, max_distance=reach)
  expected = hf_model(-distance, **options).numpy()
  actual = buckets(reach, count)[np.minimum(distance.numpy(), reach)]
  np.testing.assert_array_equal(actual, expected)
