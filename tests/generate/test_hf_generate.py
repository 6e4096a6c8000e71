"""Continuations equal those of `transformers`: greedy, penalised, with beams."""

import hf
import numpy as np
import pytest
import torch
import transformers

from lm.generate import beam, decode
from lm.generate.sample import Sampling

VOCAB, EOS, LENGTH = 61, 7, 12
CONFIGS = {
  "gpt2": transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=32),
  "llama": transformers.LlamaConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
  ),
}
PROMPTS = [[3, 14, 15, 9, 2], [6], [5, 35, 8]]


@pytest.fixture(scope="module", params=CONFIGS)
def hf_and_ours(request):
  """Returns (random transformers model, our model, our parameters)."""
  config = CONFIGS[request.param]
  config.vocab_size, config.bos_token_id, config.eos_token_id = VOCAB, EOS, EOS
  torch.manual_seed(1)
  hf_model = transformers.AutoModelForCausalLM.from_config(config).eval()
  with torch.no_grad():
    for weight in hf_model.parameters():
      weight += 0.1 * torch.randn_like(weight)
  return hf_model, *hf.copied(hf_model)


def hf_ids(hf_model, prompt, **options):
  """Returns (new ids, a row for each sequence; scores of beams, or None)."""
  with torch.no_grad():
    result = hf_model.generate(
      torch.tensor([prompt]),
      attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
      max_new_tokens=LENGTH,
      pad_token_id=VOCAB - 1,
      do_sample=False,
      return_dict_in_generate=True,
      output_scores=True,
      **options,
    )
  ids = result.sequences.numpy()[:, len(prompt) :]
  return ids, getattr(result, "sequences_scores", None)


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy(hf_and_ours, penalty):
  hf_model, model, params = hf_and_ours
  result = decode.generate(
    model,
    params,
    PROMPTS,
    max_tokens=LENGTH,
    sampling=Sampling(temperature=0.0, repetition_penalty=penalty),
    stops=[EOS],
  )
  for row, prompt in enumerate(PROMPTS):
    ids_BT, _ = hf_ids(hf_model, prompt, repetition_penalty=penalty)
    assert result.ids_BT[row, : result.lengths_B[row]].tolist() == ids_BT[0].tolist()


@pytest.mark.parametrize(
  "beams, length_penalty", [(2, 1.0), (4, 0.0), (4, 2.5), (3, -1)]
)
def test_beams(hf_and_ours, beams, length_penalty):
  hf_model, model, params = hf_and_ours
  options = dict(beams=beams, length_penalty=length_penalty, stops=[EOS])
  result = beam.generate(model, params, PROMPTS, max_tokens=LENGTH, **options)
  for row, prompt in enumerate(PROMPTS):
    ids_ZT, scores_Z = hf_ids(
      hf_model,
      prompt,
      num_beams=beams,
      num_return_sequences=beams,
      length_penalty=float(length_penalty),
      early_stopping="never",
    )
    np.testing.assert_allclose(result.scores_BZ[row], scores_Z.numpy(), rtol=1e-4)
    for w in range(beams):
      ids = result.ids_BZT[row, w, : result.lengths_BZ[row, w]].tolist()
      assert ids == [int(i) for i in ids_ZT[w] if i != VOCAB - 1 or i in ids]
