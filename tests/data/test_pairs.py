"""Rows of pairs: what they hold, for an encoder-decoder and for a decoder."""

import jax
import numpy as np
import pytest

from lm import models
from lm.data import pairs, tokenizers
from lm.data.rows.corrupt import start_id
from lm.generate import prompts
from lm.letters import unbox
from lm.objectives.seq2seq import seq2seq
from lm.tasks.translate import Task

RECORDS = [
  {"source": "one two", "target": "un deux"},
  {"source": "three", "target": "trois été"},
  {"source": "a longer text, four words", "target": "x"},
  {"source": "b", "target": "un texte"},
]
TOKENIZER = tokenizers.byte_tokenizer()


def task(family="encdec", **options):
  """Returns a translation as a family reads it."""
  options = dict(train="debian:en-fr", max_tokens=16) | options
  return Task(**options).for_model({"family": family})


def decoded(ids) -> str:
  return TOKENIZER.decode(ids)


@pytest.mark.parametrize("family", ["encdec", "decoder", "seq2seq"])
def test_weighted_targets_are_the_references_and_their_ends(family):
  rows = task(family).rows(RECORDS, TOKENIZER, seq=48)
  assert rows.num_cut == 0
  assert {k: (x.shape, x.dtype) for k, x in rows[0].items()} == rows.shapes()
  packs, read = models.traits(family).packs, {}
  assert (len(rows) < len(RECORDS)) == packs
  for index, members in enumerate(rows.members):
    row = rows[index]
    assert ("segments_T" in row) == packs
    for place, number in enumerate(members):
      is_own_T = row.get("segments_T", np.ones(48)) == place + 1
      is_written_T = is_own_T & (row["weights_T"] > 0)
      targets = row["targets_T"][is_written_T]
      assert targets[-1] == TOKENIZER.eos and TOKENIZER.eos not in targets[:-1]
      # Each target is the next input, up to the last one.
      inputs = row["tokens_T"][is_own_T][-len(targets) :]
      if packs:
        assert inputs[1:].tolist() == targets[:-1].tolist()
      read[int(number)] = decoded(targets)
  assert [read[i] for i in range(len(RECORDS))] == [r["target"] for r in RECORDS]


def test_an_encoder_reads_in_training_what_it_reads_in_use():
  rows = task("encdec").rows(RECORDS, TOKENIZER, seq=48)
  model = models.build("encdec", preset="t5-tiny", vocab=TOKENIZER.size)
  ids = prompts.encode(TOKENIZER, [record["source"] for record in RECORDS])
  starts, sources, _ = prompts.as_sources(model, TOKENIZER, ids)
  for index, members in enumerate(rows.members):
    row = rows[index]
    for place, number in enumerate(members):
      source = row["source_S"][row["source_segments_S"] == place + 1]
      assert source.tolist() == sources[number].tolist()
      first = row["tokens_T"][row["segments_T"] == place + 1][0]
      assert [first] == starts[number] == [start_id(TOKENIZER)]


def test_a_decoder_reads_a_line_break_between_a_text_and_its_translation():
  row = task("decoder").rows(RECORDS[:1], TOKENIZER, seq=48)[0]
  assert decoded(row["tokens_T"][row["segments_T"] > 0]) == "one two\nun deux"
  named = task("decoder", prompt="en: {text} fr: ")
  row = named.rows(RECORDS[:1], TOKENIZER, seq=48)[0]
  assert decoded(row["tokens_T"][row["weights_T"] == 0]).startswith("en: one two fr:")
  assert decoded(row["targets_T"][row["weights_T"] > 0]) == "un deux"


@pytest.mark.parametrize("family", ["encdec", "decoder"])
def test_packing_leaves_the_loss_as_it_is(family):
  sizes = dict(width=16, layers=1, heads=2, head_size=8, ff=32)
  model = models.build(family, vocab=TOKENIZER.size, **sizes)
  apply, given = model.apply, task(family)
  batch_of = lambda rows: {
    f"{key.rpartition('_')[0]}_B{key.rpartition('_')[2]}": np.stack(
      [rows[i][key] for i in range(len(rows))]
    )
    for key in rows[0]
  }
  packed = given.rows(RECORDS, TOKENIZER, seq=64)
  single = [given.rows([record], TOKENIZER, seq=64) for record in RECORDS]
  batch = batch_of(packed)
  params = unbox(model.init(jax.random.key(0), batch["tokens_BT"])["params"])
  sums = seq2seq(apply, params, batch, None, train=False)
  each = [seq2seq(apply, params, batch_of(r), None, train=False) for r in single]
  for name in ("loss", "accuracy"):
    expected = np.sum([np.array(s[name]) for s in each], axis=0)
    np.testing.assert_allclose(np.array(sums[name]), expected, rtol=1e-5)


def test_what_is_too_long_is_cut_and_counted():
  short = task("encdec", max_tokens=4, targets=8)
  rows = short.rows(RECORDS, TOKENIZER, seq=12)
  # Three long targets, and one long source.
  assert rows.num_cut == 4 and rows[0]["tokens_T"].shape == (8,)
  row = short.rows(RECORDS[:1], TOKENIZER, seq=12)[0]
  assert decoded(row["targets_T"][row["weights_T"] > 0]) == "un "
  assert row["targets_T"][row["weights_T"] > 0][-1] == TOKENIZER.eos
  row = task("decoder", max_tokens=4).rows(RECORDS[2:3], TOKENIZER, seq=12)[0]
  assert decoded(row["tokens_T"][row["segments_T"] > 0]) == "a longe\nx"


@pytest.mark.parametrize(
  "make, message",
  [
    (
      lambda: task("decoder", max_tokens=32).layout(32),
      "a row has room for 31; make seq",
    ),
    (
      lambda: task(targets=8).layout(32),
      "max_tokens=16, .* room for 8; make task.targ",
    ),
    (
      lambda: task("encoder"),
      "the answer is a text, and the model's family writes none",
    ),
    (lambda: task(prompt="no place"), r"task.prompt='no place'; wanted \{text\} in it"),
    (lambda: task(max_tokens=0), "max_tokens=0; wanted 1 or more"),
    (
      lambda: pairs.before(TOKENIZER, "a", ""),
      "no token for '', which ends what a dec",
    ),
  ],
)
def test_what_cannot_be_a_row_is_one_line(make, message):
  with pytest.raises(ValueError, match=message):
    make()
