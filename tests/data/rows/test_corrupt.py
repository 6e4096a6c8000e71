"""Corruptions: what is taken out, that it comes back, and when it is drawn anew."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import tokenizers
from lm.data.corpus import mixture
from lm.data.loader import Loader
from lm.data.rows import corrupt, pack
from lm.data.rows.corrupt import SENTINELS
from lm.data.tokenizers import word_starts
from lm.letters import make_mesh

SEQ = 64
BYTES = tokenizers.byte_tokenizer()
MASKED = dict(rate=0.15, whole_words=False)
OPTIONS = {
  "masked": MASKED,
  "pairs": MASKED,
  "spans": dict(rate=0.15, length=3.0),
  "prefix": {},
}


def made(name, seq=SEQ, **options):
  return corrupt.make(
    name, corrupt.extended(BYTES, name), seq, **(OPTIONS[name] | options)
  )


def rows_of(num: int, seq=SEQ):
  """`num` rows of different text, the last of them half full."""
  ids = np.random.default_rng(0).integers(97, 123, num * seq - seq // 2 + 1)
  return pack.ConcatRows(ids.astype(np.int32), seq, BYTES.pad)


ROWS = rows_of(5)


def one(name, index=0, seed=0, **how):
  draw = np.random.default_rng(seed)
  return made(name)(ROWS[index], draw, rows=ROWS, **how)


def test_a_tokenizer_that_has_a_mask_keeps_it():
  roberta = BYTES.extended(["<mask>"])
  tokenizer = corrupt.extended(roberta, "masked")
  assert tokenizer.size == roberta.size == BYTES.size + 1
  hide = corrupt.make("masked", tokenizer, SEQ, **MASKED)
  row = hide(ROWS[0], np.random.default_rng(0), rows=ROWS, view=0)
  assert tokenizer.id("<mask>") in row["tokens_T"]


def test_masks_are_a_share_of_the_row_and_of_three_kinds():
  mask_id = corrupt.extended(BYTES, "masked").id("[MASK]")
  assert mask_id == BYTES.size
  kinds = np.zeros(3)
  for seed in range(300):
    row = one("masked", seed=seed)
    hidden_T = row["weights_T"] > 0
    assert hidden_T.sum() == round(0.15 * SEQ)
    np.testing.assert_array_equal(row["targets_T"], ROWS[0]["targets_T"])
    same_T = row["tokens_T"] == row["targets_T"]
    assert same_T[~hidden_T].all()
    mask_T = row["tokens_T"] == mask_id
    counts = mask_T, same_T, ~same_T & ~mask_T
    kinds += [(kind & hidden_T).sum() for kind in counts]
  np.testing.assert_allclose(kinds / kinds.sum(), [0.8, 0.1, 0.1], atol=0.02)


def test_the_views_of_held_out_text_hide_every_token_once():
  for index in (0, 4):
    views = [one("masked", index, view=view) for view in range(made("masked").views)]
    times_T = np.sum([view["weights_T"] for view in views], axis=0)
    np.testing.assert_array_equal(times_T, ROWS[index]["weights_T"])
    np.testing.assert_array_equal(views[0]["segments_T"], ROWS[index]["weights_T"])


def test_words_are_hidden_whole():
  text = "the unforgettable fox, don't! na\u00efvet\u00e9 \u4e16\u754c x2y\n" * 2
  ids = BYTES.encode(text)[:SEQ]
  row = pack.empty_row(SEQ, BYTES.pad) | {
    "targets_T": ids,
    "weights_T": np.ones(SEQ, np.float32),
  }
  masked, ends = made("masked", whole_words=True), set()
  joined = word_starts.joins(BYTES)(ids[:-1], ids[1:])
  for seed in range(50):
    hidden_T = masked(row, np.random.default_rng(seed), rows=ROWS)["weights_T"] > 0
    assert hidden_T.any()
    assert (hidden_T[:-1] == hidden_T[1:])[joined].all()
    ends |= set(np.flatnonzero(hidden_T[:-1] != hidden_T[1:]))
  assert len(ends) > 15


def test_a_word_of_wordpiece_goes_on_with_its_hashes():
  class WordPiece:
    size, byte_level = 4, False
    text_of_id = staticmethod(["un", "##for", "##get", "fox"].__getitem__)

  ids = np.array([3, 0, 1, 2, 3])
  found = word_starts.joins(WordPiece())(ids[:-1], ids[1:])
  assert found.tolist() == [False, True, True, False]


@given(seq=st.integers(2, 200), real=st.integers(0, 200), seed=st.integers(0, 9))
def test_spans_and_sentinels_make_the_text_again(seq, real, seed):
  real = min(real, seq)
  text = np.arange(real) % 256
  row = pack.empty_row(seq, BYTES.pad)
  row["targets_T"][:real], row["weights_T"][:real] = text, 1
  spans = made("spans", seq)
  out = spans(row, np.random.default_rng(seed), rows=ROWS)
  real_S, real_T = out["source_segments_S"] > 0, out["weights_T"] > 0
  source, targets = out["source_S"][real_S].tolist(), out["targets_T"][real_T].tolist()
  if real < 2:
    assert not source and not targets
    return
  assert source.pop() == targets.pop() == BYTES.eos
  first = corrupt.extended(BYTES, "spans").id(SENTINELS[0])
  pieces, hidden = {}, 0
  for id in targets:
    if id >= first:
      pieces[id] = []
    else:
      pieces[max(pieces)].append(id)
      hidden += 1
  assert list(pieces) == list(range(first, first + len(pieces)))
  again = [i for id in source for i in (pieces[id] if id >= first else [id])]
  assert again == text.tolist()
  assert hidden == max(1, round(0.15 * real)) or real < 4
  assert out["tokens_T"][0] == BYTES.pad
  shown = out["tokens_T"][1 : real_T.sum()]
  np.testing.assert_array_equal(shown, out["targets_T"][: shown.size])


def test_held_out_spans_count_the_text_alone():
  row = one("spans", view=0)
  counted = row["targets_T"][row["weights_T"] > 0]
  assert counted.size == round(0.15 * SEQ) and counted.max() < 256


def test_a_prefix_and_the_rest_are_the_row():
  cuts = set()
  for seed in range(20):
    row = one("prefix", seed=seed)
    source = row["source_S"][row["source_segments_S"] > 0]
    targets = row["targets_T"][row["weights_T"] > 0]
    assert source[-1] == targets[-1] == BYTES.eos
    whole = np.concatenate([source[:-1], targets[:-1]])
    np.testing.assert_array_equal(whole, ROWS[0]["targets_T"])
    cuts.add(source.size)
  assert len(cuts) > 10


def test_pairs_follow_half_the_time_and_say_so():
  follows = []
  for seed in range(200):
    row = one("pairs", seed=seed)
    text = np.where(row["weights_T"] > 0, row["targets_T"], row["tokens_T"])
    first, second = (text[row["types_T"] == kind] for kind in (0, 1))
    np.testing.assert_array_equal(first[1:-1], ROWS[0]["targets_T"][: first.size - 2])
    wanted = ROWS[0]["targets_T"][first.size - 2 :][: second.size - 1]
    follows.append(np.array_equal(second[:-1], wanted))
    assert row["next_C"] == [not follows[-1]]
    specials = BYTES.size + np.arange(1, 3)
    assert [first[0], first[-1], second[-1]] == [*specials, specials[1]]
    assert not np.isin(row["targets_T"][row["weights_T"] > 0], specials).any()
  assert 0.45 < np.mean(follows) < 0.75


@pytest.mark.parametrize("name", OPTIONS)
def test_padding_weighs_nothing(name):
  row = made(name)(ROWS.pad_row(), np.random.default_rng(0), rows=ROWS, view=0)
  shapes = {key: x.shape for key, x in one(name).items()}
  assert {key: x.shape for key, x in row.items()} == shapes
  assert not row["weights_T"].any()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corrupt")
  lines = np.random.default_rng(0).integers(0, 1000, (40, 9)).astype(str)
  (folder / "text.txt").write_text("\n\n".join(" ".join(line) for line in lines))
  [made] = mixture.prepare_all(
    [f"text:{folder / 'text.txt'}"],
    tokenizer="bytes",
    clean={},
    pack="concat",
    seq=SEQ,
    cache=folder / "cache",
    log=lambda line: None,
  )
  return made


@pytest.mark.parametrize("name", OPTIONS)
def test_a_batch_is_a_function_of_seed_and_step(name, prepared):
  def loader(split="train", seed=0, **sizes):
    mesh = make_mesh(jax.devices()[: 2 if sizes else 1], **sizes)
    how = dict(batch=4, seq=SEQ, seed=seed, mesh=mesh, corrupt=made(name))
    return Loader(prepared, split, **how)

  epoch = len(prepared.rows("train")) // 4 + 1
  load, again = loader(), loader(data=2)
  digests = [load.digest(step) for step in (0, 1, epoch)]
  assert digests == [again.digest(step) for step in (0, 1, epoch)]
  assert len({*digests, loader(seed=1).digest(0)}) == 4
  batch = load(1)
  for key, value in again(1).items():
    np.testing.assert_array_equal(value, batch[key])
  held = loader("heldout", seed=None)
  assert held.digest(0) == loader("heldout", seed=None).digest(0)
  assert len(held) == -(-len(prepared.rows("heldout")) * made(name).views // 4)


@pytest.mark.parametrize("objective, name, packed, told", [
  ("masked_lm", "", "concat", "wanted a corrupt.name of masked"),
  ("masked_lm", "spans", "concat", "wanted a corrupt.name of masked"),
  ("seq2seq", "", "concat", "wanted a corrupt.name of spans or prefix"),
  ("next_token", "masked", "concat", "wanted no corrupt, or the objective masked_lm"),
  ("seq2seq", "spans", "first_fit", "data.pack='first_fit'; wanted 'concat'"),
  ("seq2seq", "holes", "concat", "no corruption 'holes'; found: masked, pairs, spans"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(objective, name, packed, told):
  with pytest.raises(ValueError, match=told):
    corrupt.check(objective, name, packed)


def test_wrong_values_are_refused():
  with pytest.raises(ValueError, match=r"corrupt.rate=1.5; wanted more than 0"):
    made("masked", rate=1.5)
  with pytest.raises(ValueError, match=r"length=0.5 tokens a span; wanted 1 or more"):
    made("spans", length=0.5)
  with pytest.raises(ValueError, match="there are 100 sentinels"):
    made("spans", seq=4000)
  with pytest.raises(ValueError, match="with rate; wanted length, rate"):
    corrupt.make("spans", corrupt.extended(BYTES, "spans"), SEQ, rate=0.1)
