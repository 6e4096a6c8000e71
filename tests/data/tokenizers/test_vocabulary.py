"""Tables with more rows than tokens, and with fewer."""

import fakes
import numpy as np
import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from lm.data import tokenizers
from lm.data.tokenizers import Tokenizer, vocabulary
from lm.generate import beam, decode, stream
from lm.generate.sample import Sampling

BYTES = tokenizers.byte_tokenizer()


def words(vocab: dict, *, bytes_too=True) -> Tokenizer:
  """Returns a tokenizer of this vocabulary, which may have holes."""
  inner = Inner(models.WordLevel(vocab, unk_token="a"))
  inner.pre_tokenizer = pre_tokenizers.Whitespace()
  inner.decoder = decoders.ByteLevel() if bytes_too else decoders.WordPiece()
  inner.add_special_tokens(["</s>"])
  return Tokenizer(inner, {"eos_token": "</s>"})


HOLES = {"a": 0, "b": 3, "c": 9, "</s>": 12}


def test_which_ids_have_a_token():
  tokenizer = words(HOLES)
  assert tokenizer.size == 13
  assert np.flatnonzero(tokenizer.is_token_V).tolist() == [0, 3, 9, 12]
  for rows in (5, 13, 40):
    drawable = vocabulary.drawable(tokenizer, rows)
    assert len(drawable) == rows
    assert np.flatnonzero(drawable).tolist() == [i for i in (0, 3, 9, 12) if i < rows]


@pytest.mark.parametrize("bytes_too", [True, False])
def test_an_id_without_a_token_stands_for_nothing(bytes_too):
  tokenizer = words(HOLES, bytes_too=bytes_too)
  ids = [0, 1, 3, 13, 4000, -1, 2**31 - 1, 9]
  assert tokenizer.decode(ids) == tokenizer.decode([0, 3, 9])
  assert tokenizer.decode_bytes(ids) == tokenizer.decode_bytes([0, 3, 9])


@pytest.mark.parametrize("rows", [13, 40, 200])
@pytest.mark.parametrize("tokenizer", [words(HOLES), words(HOLES, bytes_too=False)])
def test_an_id_without_a_token_is_never_drawn(tokenizer, rows):
  """Draws from a model that likes those best, in every way there is."""
  model = fakes.small(fakes.TableModel, vocab=rows)
  table = np.full((rows, rows), 50.0, np.float32)
  table[:, list(HOLES.values())] = 0
  params, known = {"table_VV": table}, set(HOLES.values())
  settings = [{}, dict(temperature=0), dict(temperature=1e30), dict(top_k=3)]
  settings += [dict(top_p=0.5), dict(min_p=0.1), dict(repetition_penalty=3.0)]
  for options in settings:
    pieces = stream.generate(
      model, params, tokenizer, "a", max_tokens=12, n=4, **options
    )
    assert {int(id) for piece in pieces for id in piece.ids} <= known
  for piece in stream.search(model, params, tokenizer, "a", beams=3, n=3, max_tokens=6):
    assert set(piece.ids.tolist()) <= known and np.isfinite(piece.score)


def test_all_ids_may_be_drawn_without_a_tokenizer():
  model = fakes.small(fakes.UniformModel, vocab=9)
  ids = decode.generate(
    model, model.init(), [[1]], max_tokens=200, sampling=Sampling()
  ).ids_BT
  assert set(ids[0].tolist()) == set(range(9))
  drawable = np.arange(9) % 2 == 1
  ids = decode.generate(
    model, model.init(), [[1]], max_tokens=99, sampling=Sampling(), drawable=drawable
  ).ids_BT
  assert set(ids[0, :99].tolist()) == {1, 3, 5, 7}
  hypotheses = beam.generate(
    model, model.init(), [[1]], max_tokens=2, beams=5, drawable=np.arange(9) == 4
  )
  assert hypotheses.ids_BZT[0, 0, :2].tolist() == [4, 4]
  assert np.isfinite(hypotheses.scores_BZ[0]).tolist() == [True] + [False] * 4


def test_a_prompt_may_not_have_ids_without_a_row():
  tokenizer = words(HOLES)
  model = fakes.small(fakes.UniformModel, vocab=10)
  options = model, model.init(), tokenizer
  assert len(stream.generate(*options, [0, 9], max_tokens=1)) == 1
  for run in (stream.generate, lambda *a, **k: stream.search(*a, beams=2, **k)):
    with pytest.raises(ValueError, match="token 12, and the model has rows for 0 to 9"):
      run(*options, [0, 12], max_tokens=1)


def test_text_that_has_no_row_is_refused():
  vocabulary.check(BYTES, 258)
  vocabulary.check(BYTES, 256)  # two special tokens behind the table
  with pytest.raises(ValueError, match="the model has 255 tokens, the tokenizer 258"):
    vocabulary.check(BYTES, 255)
