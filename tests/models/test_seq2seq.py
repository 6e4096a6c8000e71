"""Recurrent seq2seq: logits equal torch's, generation reads the source."""

import jax
import numpy as np
import torch
from families import FAMILIES, VOCAB, tokens
from test_rnn import layer

from lm.generate import decode

B, T, S, D, L = 3, 6, 5, 8, 2
LENGTHS = np.array([5, 3, 1])  # of the sources


def noise(*shape, seed):
  return 0.5 * np.random.default_rng(seed).standard_normal(shape, np.float32)


def torch_lstm(seed):
  torch.manual_seed(seed)
  lstm = torch.nn.LSTM(D, D, num_layers=L, batch_first=True)
  with torch.no_grad():
    for weight in lstm.parameters():
      weight += 0.5 * torch.randn_like(weight)
  layers = [layer(lstm, l, "lstm") for l in range(L)]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *layers)
  return lstm, {"layer": {"cell": stacked}}


def test_logits_are_those_of_torch():
  model = FAMILIES["seq2seq"].model(width=D)
  (encoder, source_blocks), (decoder, blocks) = torch_lstm(0), torch_lstm(1)
  parts = {name: noise(D, D, seed=i) for i, name in enumerate(("score", "state"))}
  parts["read"], table_VD = noise(D, D, seed=2), noise(128, D, seed=3)
  params = dict(source_blocks=source_blocks, blocks=blocks, attention=parts)
  params["embed"] = {"table": table_VD}
  tokens_BT, source_BS = tokens(B, T), tokens(B, S, seed=1)
  real_BS = np.arange(S)[None] < LENGTHS[:, None]
  actual_BTV, _ = jax.jit(model.apply)(
    {"params": params},
    tokens_BT,
    source_BS=source_BS,
    source_segments_BS=real_BS.astype(np.int32),
  )
  tensor = torch.from_numpy
  for b, length in enumerate(LENGTHS):
    source_1SD, state = encoder(tensor(table_VD[source_BS[b : b + 1, :length]]))
    h_1TD, _ = decoder(tensor(table_VD[tokens_BT[b : b + 1]]), state)
    scores_1TS = h_1TD @ tensor(parts["score"]) @ source_1SD.mT
    context_1TD = torch.softmax(scores_1TS, -1) @ source_1SD
    x_1TD = torch.tanh(
      h_1TD @ tensor(parts["state"]) + context_1TD @ tensor(parts["read"])
    )
    expected_TV = (x_1TD @ tensor(table_VD).T)[0, :, :VOCAB].detach().numpy()
    np.testing.assert_allclose(actual_BTV[b], expected_TV, rtol=1e-5, atol=1e-5)


def test_greedy_writing_is_the_argmax_of_the_whole_model():
  """Uses sources of unequal length, and prompts of one token and of three."""
  family = FAMILIES["seq2seq"]
  model, params = family.model(), family.params()
  sources, prompts = [[5, 3, 8, 1], [9], [2, 2, 4]], [[7], [7, 1, 3], [7]]
  result = decode.generate(model, params, prompts, sources=sources, max_tokens=5)
  whole = jax.jit(model.apply)
  for row, (source, ids) in enumerate(zip(sources, prompts, strict=True)):
    ids = list(ids)
    for token in result.ids_BT[row, :5]:
      padded_1T = np.array([ids + [0] * (8 - len(ids))])
      padded_1S = np.array([source + [0] * (4 - len(source))])
      logits_1TV, _ = whole(
        {"params": params},
        padded_1T,
        source_BS=padded_1S,
        source_segments_BS=(np.arange(4) < len(source)).astype(np.int32)[None],
      )
      assert token == np.argmax(logits_1TV[0, len(ids) - 1])
      ids.append(int(token))


def test_the_memory_of_writing_is_constant():
  model = FAMILIES["seq2seq"].model()
  size = lambda n: sum(x.nbytes for x in jax.tree.leaves(model.init_cache(B, n)))
  assert size(1) == size(1_000_000) == 4 * B * 2 * 32 * 2
