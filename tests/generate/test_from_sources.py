"""Generation with an encoder: the prompt is the source, the target starts empty."""

import fakes
import jax
import numpy as np
import pytest
from families import FAMILIES

from lm import models
from lm.generate import beam, decode, prompts, stream
from lm.generate.sample import Sampling

FAMILY = FAMILIES["transformer-2017"]
SOURCES = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]
START = [[0]] * len(SOURCES)
MODEL, PARAMS = FAMILY.model(scan=False), FAMILY.params()


def rows(result):
  return [
    ids[:n].tolist() for ids, n in zip(result.ids_BT, result.lengths_B, strict=True)
  ]  # fmt: skip


def greedy_reference(count):
  """Returns greedy continuations, the whole decoder run for every token."""
  source = prompts.pad_sources(MODEL, SOURCES, 3)
  run = jax.jit(
    lambda tokens_BT: MODEL.apply({"params": PARAMS}, tokens_BT, **source)[0]
  )
  tokens_BT = np.zeros((3, count + 1), np.int32)
  for t in range(count):
    tokens_BT[:, t + 1] = np.argmax(run(tokens_BT)[:, t], axis=1)
  return tokens_BT[:, 1:].tolist()


def test_greedy_is_the_argmax_and_one_beam_is_greedy():
  params = decode.prepare_params(MODEL, PARAMS)
  options = dict(max_tokens=4, sources=SOURCES)
  actual = rows(decode.generate(MODEL, params, START, **options))
  assert actual == greedy_reference(4)
  beams = beam.generate(MODEL, params, START, beams=1, **options)
  assert beams.ids_BZT[:, 0, :4].tolist() == actual


def test_a_row_alone_is_the_row_in_a_batch():
  options = dict(max_tokens=4, sampling=Sampling(temperature=1.5), seed=7, n=2)
  together = rows(decode.generate(MODEL, PARAMS, START, sources=SOURCES, **options))
  search = dict(max_tokens=4, beams=3)
  beams = beam.generate(MODEL, PARAMS, START, sources=SOURCES, **search)
  assert len({tuple(row) for row in together}) > 3
  for i, source in enumerate(SOURCES[:2]):
    alone = decode.generate(MODEL, PARAMS, START[:1], sources=[source], **options)
    assert rows(alone) == together[2 * i : 2 * i + 2]
    alone_beams = beam.generate(MODEL, PARAMS, START[:1], sources=[source], **search)
    np.testing.assert_array_equal(alone_beams.ids_BZT[0], beams.ids_BZT[i])


def test_a_prompt_is_the_source_ended_as_in_training(monkeypatch):
  arguments = {}

  def start(model, params, prompts, *, sources, **options):
    arguments.update(prompts=prompts, sources=[list(s) for s in sources])
    raise ZeroDivisionError

  monkeypatch.setattr(decode, "start", start)
  tokenizer = fakes.ByteTokenizer()
  model = models.build(FAMILY.name, vocab=tokenizer.size, **FAMILY.fields)
  with pytest.raises(ZeroDivisionError):
    next(stream.stream(model, PARAMS, tokenizer, ["ab", [9, 257]]))
  assert arguments == {"prompts": [[258], [258]], "sources": [[97, 98, 257], [9, 257]]}


def test_mistakes_are_one_line():
  with pytest.raises(ValueError, match="reads a source for each prompt"):
    decode.generate(MODEL, PARAMS, START, max_tokens=2)
  with pytest.raises(ValueError, match="reads prompts alone"):
    gpt = FAMILIES["gpt2"]
    decode.generate(gpt.model(), {}, START, sources=SOURCES, max_tokens=2)
  with pytest.raises(ValueError, match="family 'encoder' writes no text"):
    decode.generate(FAMILIES["bert"].model(), {}, START, max_tokens=2)
  with pytest.raises(ValueError, match=r"source of 5 tokens does not fit .* of 4"):
    short = FAMILY.model(context=4)
    decode.generate(short, {}, START, sources=SOURCES, max_tokens=2)
