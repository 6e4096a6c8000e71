"""A trained GRU (g2p-en): our model gives the phonemes of the package's own code."""

import io
import pathlib

import jax
import numpy as np
import pytest
from test_rnn import matrix

from lm import models
from lm.data.sources import packages

CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache"
LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
PHONES = """
  AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0
  EH1 EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1
  OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH
"""
SOUNDS = ["<pad>", "<unk>", "<s>", "</s>", *PHONES.split()]
# Outputs of predict() of g2p.py in the package, which is plain NumPy.
KNOWN = {
  "transformer": "T R AE0 N S F AO1 R M ER0",
  "tokenizer": "T OW1 K AH0 N AY2 Z ER0",
  "embedding": "EH0 M B EH1 D IH0 NG",
  "backpropagation": "B AE2 K P R AH0 G P EY1 SH AH0 N",
  "jax": "JH AE1 K S",
  "shakespearean": "SH EY1 K S P IY2 R AH0 N",
  "zyzzyva": "Z IH0 Z V AY1 AH0",
}


@pytest.fixture(scope="module")
def arrays():
  [data] = packages.texts("g2p-en", cache=CACHE).values()
  with np.load(io.BytesIO(data)) as archive:
    return dict(archive)


def side(arrays, name, vocab, head_VD):
  """Returns (model, params) of the encoder or the decoder: one layer of GRU."""
  get = lambda part: arrays[f"{name}_{part}"]
  D = get("w_hh").shape[1]
  model = models.build(
    "rnn", cell="gru", vocab=vocab, width=D, layers=1, tied=False, scan=False
  )
  first_IF, second_IF = (get(part).reshape(3, D) for part in ("b_ih", "b_hh"))
  cell = {
    "input": matrix(get("w_ih")),
    "recurrent": matrix(get("w_hh")),
    "bias": first_IF + np.array([[1], [1], [0]], np.float32) * second_IF,
    "recurrent_bias": second_IF[2],
  }
  padded = lambda w_VD: np.pad(w_VD, ((0, 128 - len(w_VD)), (0, 0)))
  params = {
    "embed": {"table": padded(get("emb"))},
    "blocks": {"layer": {"cell": jax.tree.map(lambda x: x[None], cell)}},
    "head": {"table": padded(head_VD).T},
  }
  return model, {"params": params}


def test_phonemes_are_those_of_the_package(arrays):
  """Decodes from the final state of the encoder."""
  bias_V = arrays["fc_b"]
  encoder, encoder_params = side(arrays, "enc", len(LETTERS), arrays["enc_emb"])
  decoder, decoder_params = side(arrays, "dec", len(SOUNDS), arrays["fc_w"])
  encode = jax.jit(
    lambda *args, **options: encoder.apply(encoder_params, *args, **options)[1]
  )
  decode = jax.jit(
    lambda token, cache: decoder.apply(decoder_params, token, cache=cache)
  )
  width = max(map(len, KNOWN)) + 1
  for word, sounds in KNOWN.items():
    ids = [LETTERS.index(letter) for letter in (*word, "</s>")]
    padded_1T = np.pad(ids, (0, width - len(ids)))[None]
    positions_1T = np.where(np.arange(width) < len(ids), np.arange(width), -1)[None]
    cache = encode(padded_1T, positions_BT=positions_1T, cache=encoder.init_cache(1, 0))
    spoken, token = [], SOUNDS.index("<s>")
    while token != SOUNDS.index("</s>") and len(spoken) < 20:
      logits_11V, cache = decode(np.array([[token]]), cache)
      token = int(np.argmax(logits_11V[0, 0] + bias_V))
      spoken.append(SOUNDS[token])
    assert " ".join(spoken[:-1]) == sounds
