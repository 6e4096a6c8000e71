"""The name `lm.generate`: a function, and the package of its parts."""

import subprocess
import sys

import fakes
import jax
import numpy as np

import lm
from lm.data import tokenizers
from lm.generate import stream
from lm.letters import unbox

TOKENIZER = fakes.ByteTokenizer()
TINY = dict(width=16, layers=1, heads=2, kv_heads=1, ff=32, context=32)
MODEL = fakes.small(fakes.UniformModel, vocab=TOKENIZER.size)


def test_texts_are_those_of_the_pieces():
  options = dict(max_tokens=9, n=2, seed=3)
  texts = lm.generate(MODEL, MODEL.init(), TOKENIZER, ["ab", "c"], **options)
  pieces = stream.generate(MODEL, MODEL.init(), TOKENIZER, ["ab", "c"], **options)
  assert texts == [piece.text for piece in pieces]
  assert len(texts) == 4 and texts[0] != texts[1]


def test_64_bit_types_elsewhere_change_no_text():
  model = lm.model("decoder", preset="llama-tiny", vocab=258, **TINY)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  tokenizer = tokenizers.byte_tokenizer()

  def texts():
    options = dict(max_tokens=4)
    drawn = lm.generate(model, params, tokenizer, ["ab", "c"], **options)
    best = stream.search(model, params, tokenizer, "ab", beams=2, **options)
    return drawn, [piece.text for piece in best]

  expected = texts()
  with jax.enable_x64(True):
    assert texts() == expected


def test_the_parts_stay_within_reach():
  assert lm.generate.stream is stream
  assert lm.generate.__call__.__doc__ == lm.generate.generate.__doc__


def test_the_front_door_opens_without_jax():
  code = "import sys, lm; assert callable(lm.generate); print('jax' in sys.modules)"
  shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert (shown.stdout, shown.stderr) == ("False\n", "")
