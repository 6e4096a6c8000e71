"""The name `lm.generate`: a function, and the package of its parts."""

import subprocess
import sys

import fakes

import lm
from lm.generate import stream

TOKENIZER = fakes.ByteTokenizer()
MODEL = fakes.small(fakes.UniformModel, vocab=TOKENIZER.size)


def test_texts_are_those_of_the_pieces():
  options = dict(max_tokens=9, n=2, seed=3)
  texts = lm.generate(MODEL, MODEL.init(), TOKENIZER, ["ab", "c"], **options)
  pieces = stream.generate(MODEL, MODEL.init(), TOKENIZER, ["ab", "c"], **options)
  assert texts == [piece.text for piece in pieces]
  assert len(texts) == 4 and texts[0] != texts[1]


def test_the_parts_stay_within_reach():
  assert lm.generate.stream is stream
  assert lm.generate.__call__.__doc__ == lm.generate.generate.__doc__


def test_the_front_door_opens_without_jax():
  code = "import sys, lm; assert callable(lm.generate); print('jax' in sys.modules)"
  shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert (shown.stdout, shown.stderr) == ("False\n", "")
