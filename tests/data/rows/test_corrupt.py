"""Corruptions: the hidden tokens, their restoration, and the seeds of the draws."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import Data, prepare, row_shapes, tokenizers
from lm.data.loader import Loader
from lm.data.rows import corrupt, empty_row
from lm.data.rows.concat import ConcatRows
from lm.data.rows.corrupt.spans import SENTINELS
from lm.data.tokenizers import word_starts
from lm.letters import make_mesh

SEQ = 64
BYTES = tokenizers.byte_tokenizer()
NAMES = ("masked", "pairs", "spans", "prefix")


def extended(name, tokenizer=BYTES):
  return corrupt.extended(tokenizer, corrupt.make({"name": name}))


def bound_corruption(name, seq=SEQ, **options):
  return corrupt.make({"name": name, **options}).bound(extended(name), seq)


def views_of(name):
  return corrupt.make({"name": name}).views


def rows_of(num: int, seq=SEQ):
  """Returns `num` rows of different text, the last of them half full."""
  ids = np.random.default_rng(0).integers(97, 123, num * seq - seq // 2 + 1)
  return ConcatRows(ids.astype(np.int32), seq, BYTES.pad)


ROWS = rows_of(5)


def corrupted(name, index=0, seed=0, **options):
  draw = np.random.default_rng(seed)
  return bound_corruption(name)(ROWS[index], draw, rows=ROWS, **options)


def test_a_tokenizer_that_has_a_mask_keeps_it():
  roberta = BYTES.extended(["<mask>"])
  tokenizer = extended("masked", roberta)
  assert tokenizer.size == roberta.size == BYTES.size + 1
  hide = corrupt.make({"name": "masked"}).bound(tokenizer, SEQ)
  row = hide(ROWS[0], np.random.default_rng(0), rows=ROWS, view=0)
  assert tokenizer.id("<mask>") in row["tokens_T"]


def test_masks_are_a_share_of_the_row_and_of_three_kinds():
  mask_id = extended("masked").id("[MASK]")
  assert mask_id == BYTES.size
  kinds = np.zeros(3)
  for seed in range(300):
    row = corrupted("masked", seed=seed)
    hidden_T = row["weights_T"] > 0
    assert hidden_T.sum() == round(0.15 * SEQ)
    np.testing.assert_array_equal(row["targets_T"], ROWS[0]["targets_T"])
    unchanged_T = row["tokens_T"] == row["targets_T"]
    assert unchanged_T[~hidden_T].all()
    mask_T = row["tokens_T"] == mask_id
    counts = mask_T, unchanged_T, ~unchanged_T & ~mask_T
    kinds += [(kind & hidden_T).sum() for kind in counts]
  np.testing.assert_allclose(kinds / kinds.sum(), [0.8, 0.1, 0.1], atol=0.02)


def test_the_views_of_held_out_text_hide_every_token_once():
  for index in (0, 4):
    views = [
      corrupted("masked", index, view=view) for view in range(views_of("masked"))
    ]
    times_T = np.sum([view["weights_T"] for view in views], axis=0)
    np.testing.assert_array_equal(times_T, ROWS[index]["weights_T"])
    np.testing.assert_array_equal(views[0]["segments_T"], ROWS[index]["weights_T"])


def test_words_are_hidden_whole():
  text = "the unforgettable fox, don't! na\u00efvet\u00e9 \u4e16\u754c x2y\n" * 2
  ids = BYTES.encode(text)[:SEQ]
  row = empty_row(SEQ, BYTES.pad) | {
    "targets_T": ids,
    "weights_T": np.ones(SEQ, np.float32),
  }
  masked, ends = bound_corruption("masked", whole_words=True), set()
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
  joined = word_starts.joins(WordPiece())(ids[:-1], ids[1:])
  assert joined.tolist() == [False, True, True, False]


@given(seq=st.integers(2, 200), real=st.integers(0, 200), seed=st.integers(0, 9))
def test_spans_and_sentinels_make_the_text_again(seq, real, seed):
  real = min(real, seq)
  text = np.arange(real) % 256
  row = empty_row(seq, BYTES.pad)
  row["targets_T"][:real], row["weights_T"][:real] = text, 1
  spans = bound_corruption("spans", seq)
  corrupted_row = spans(row, np.random.default_rng(seed), rows=ROWS)
  real_S, real_T = (
    corrupted_row["source_segments_S"] > 0,
    corrupted_row["weights_T"] > 0,
  )
  source, targets = (
    corrupted_row["source_S"][real_S].tolist(),
    corrupted_row["targets_T"][real_T].tolist(),
  )
  if real < 2:
    assert not source and not targets
    return
  assert source.pop() == targets.pop() == BYTES.eos
  first = extended("spans").id(SENTINELS[0])
  pieces, hidden = {}, 0
  for id in targets:
    if id >= first:
      pieces[id] = []
    else:
      pieces[max(pieces)].append(id)
      hidden += 1
  assert list(pieces) == list(range(first, first + len(pieces)))
  restored = [i for id in source for i in (pieces[id] if id >= first else [id])]
  assert restored == text.tolist()
  assert hidden == max(1, round(0.15 * real)) or real < 4
  assert corrupted_row["tokens_T"][0] == BYTES.pad
  shown = corrupted_row["tokens_T"][1 : real_T.sum()]
  np.testing.assert_array_equal(shown, corrupted_row["targets_T"][: shown.size])


def test_held_out_spans_count_the_text_alone():
  row = corrupted("spans", view=0)
  counted = row["targets_T"][row["weights_T"] > 0]
  assert counted.size == round(0.15 * SEQ) and counted.max() < 256


def test_a_prefix_and_the_rest_are_the_row():
  cuts = set()
  for seed in range(20):
    row = corrupted("prefix", seed=seed)
    source = row["source_S"][row["source_segments_S"] > 0]
    targets = row["targets_T"][row["weights_T"] > 0]
    assert source[-1] == targets[-1] == BYTES.eos
    whole = np.concatenate([source[:-1], targets[:-1]])
    np.testing.assert_array_equal(whole, ROWS[0]["targets_T"])
    cuts.add(source.size)
  assert len(cuts) > 10


def test_pairs_follow_half_the_time_and_are_labelled_so():
  follows = []
  for seed in range(200):
    row = corrupted("pairs", seed=seed)
    text = np.where(row["weights_T"] > 0, row["targets_T"], row["tokens_T"])
    first, second = (text[row["types_T"] == kind] for kind in (0, 1))
    np.testing.assert_array_equal(first[1:-1], ROWS[0]["targets_T"][: first.size - 2])
    expected = ROWS[0]["targets_T"][first.size - 2 :][: second.size - 1]
    follows.append(np.array_equal(second[:-1], expected))
    assert row["next_"] == (not follows[-1])
    specials = BYTES.size + np.arange(1, 3)
    assert [first[0], first[-1], second[-1]] == [*specials, specials[1]]
    assert not np.isin(row["targets_T"][row["weights_T"] > 0], specials).any()
  assert 0.45 < np.mean(follows) < 0.75


@pytest.mark.parametrize("name", NAMES)
def test_padding_weighs_nothing(name):
  row = bound_corruption(name)(
    ROWS.padding(), np.random.default_rng(0), rows=ROWS, view=0
  )
  shapes = {key: x.shape for key, x in corrupted(name).items()}
  assert {key: x.shape for key, x in row.items()} == shapes
  assert not row["weights_T"].any()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corrupt")
  lines = np.random.default_rng(0).integers(0, 1000, (40, 9)).astype(str)
  (folder / "text.txt").write_text("\n\n".join(" ".join(line) for line in lines))
  return folder / "text.txt"


def data_of(text, **settings):
  return Data(source=f"text:{text}", cache=str(text.parent / "cache"), **settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_a_function_of_seed_and_step(name, text):
  data = data_of(text, corrupt={"name": name})
  dataset = prepare(data, seq=SEQ, log=lambda line: None)
  plain = prepare(data_of(text), seq=SEQ)

  def loader(split="train", seed=0, **sizes):
    mesh = make_mesh(jax.devices()[: 2 if sizes else 1], **sizes)
    order = "shuffled" if split == "train" else "once"
    rows = dataset.rows(split, SEQ)
    return Loader(rows, batch=4, mesh=mesh, order=order, seed=seed)

  epoch = len(plain.rows("train", SEQ)) // 4 + 1
  load, on_two_devices = loader(), loader(data=2)
  digests = [load.digest(step) for step in (0, 1, epoch)]
  assert digests == [on_two_devices.digest(step) for step in (0, 1, epoch)]
  assert len({*digests, loader(seed=1).digest(0)}) == 4
  batch = load(1)
  for key, value in on_two_devices(1).items():
    np.testing.assert_array_equal(value, batch[key])
  heldout = loader("heldout")
  assert heldout.digest(0) == loader("heldout").digest(0)
  assert len(heldout) == -(-len(plain.rows("heldout", SEQ)) * views_of(name) // 4)


def test_the_tokenizer_of_a_dataset_has_the_special_tokens(text):
  plain = prepare(data_of(text), seq=SEQ, log=lambda line: None)
  masked = prepare(data_of(text, corrupt={"name": "masked"}), seq=SEQ)
  assert masked.folder == plain.folder
  assert (
    masked.tokenizer.size == plain.tokenizer.size + 1 == masked.counts("train").size
  )
  assert masked.digest != plain.digest


@pytest.mark.parametrize("options, message", [
  (dict(name="holes"), "no corruption 'holes'; found: masked, pairs, prefix, spans"),
  (dict(rate=0.1), "has no name; wanted one of"),
  (dict(name="spans", size=1), "no option 'size'; it has: rate, length"),
  (dict(name="spans", ratee=0.1), "no option 'ratee'; did you mean 'rate'"),
  (dict(name="masked", rate=1.5), "rate=1.5; wanted a number more than 0, less than 1"),
  (dict(name="masked", rate="a"), "rate='a'; wanted a number more than 0"),
  (dict(name="spans", length=0.5), "length=0.5; wanted a number at least 1"),
])  # fmt: skip
def test_wrong_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    corrupt.make(options)


@pytest.mark.parametrize("name, seq, message", [
  ("spans", 4000, "there are 100 sentinels"),
  ("spans", 1, "seq=1 is too short to take a span out"),
  ("pairs", 7, "seq=7 is too short for two sentences"),
])  # fmt: skip
def test_a_length_that_does_not_fit_is_refused_before_there_are_data(
  name, seq, message
):
  data = Data(source="text:none.txt", corrupt={"name": name})
  with pytest.raises(ValueError, match=message):
    row_shapes(data, seq)
