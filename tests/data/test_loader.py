"""The loader: a batch is a function of (seed, step), on any mesh and by any hosts."""

import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loader_pair import Counted

import lm.data
from lm.data import Data, Rows, loader
from lm.data.loader import Loader
from lm.data.rows import Joined
from lm.letters import make_mesh, sharding

SEQ = 16
ROOT = pathlib.Path(lm.data.__file__).parents[2]


def text_of(seed: int, num: int) -> str:
  rng = np.random.default_rng(seed)
  words = rng.integers(0, 1000, (num, 9)).astype(str)
  return "\n\n".join(" ".join(line) for line in words)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  folder = tmp_path_factory.mktemp("loader")
  for name, num in (("large", 60), ("small", 24)):
    (folder / f"{name}.txt").write_text(text_of(num, num))
  return folder


def dataset_of(sources, *names, **settings):
  names = tuple(f"text:{sources / name}.txt" for name in names)
  data = Data(source=names, cache=str(sources / "cache"), **settings)
  return lm.data.prepare(data, seq=SEQ, log=lambda line: None)


@pytest.fixture(scope="module")
def concat(sources):
  return dataset_of(sources, "large")


@pytest.fixture(scope="module")
def packed(sources):
  return dataset_of(sources, "large", rows="first_fit")


def mesh_of(num: int = 1, **sizes):
  return make_mesh(jax.devices()[:num], **sizes)


def loader_of(dataset, split="train", *, batch=8, mesh=None, **options):
  rows = dataset.rows(split, SEQ)
  if split != "train":
    options["order"] = "once"
  return Loader(rows, batch=batch, mesh=mesh or mesh_of(), **options)


def lines_of(batch):
  return [tuple(row) for row in np.asarray(batch["tokens_BT"]).tolist()]


MESHES = [
  (1, {}),
  (2, {"data": 2}),
  (8, {"data": 8}),
  (8, {"data": 2, "fsdp": 2, "tensor": 2}),
  (8, {"fsdp": 2, "context": 4}),
]


@pytest.mark.parametrize(("num", "sizes"), MESHES)
@pytest.mark.parametrize("kind", ["concat", "first_fit"])
def test_a_batch_is_the_same_on_every_mesh(concat, packed, kind, num, sizes):
  data, mesh = {"concat": concat, "first_fit": packed}[kind], mesh_of(num, **sizes)
  load, plain = loader_of(data, mesh=mesh), loader_of(data)
  for step in (3, 0, 40):
    batch, expected = load(step), plain(step)
    assert batch.keys() == expected.keys() == load.shapes.keys()
    for key, value in batch.items():
      assert value.sharding == sharding(mesh, "BT")
      assert value.dtype == (np.float32 if key == "weights_BT" else np.int32)
      np.testing.assert_array_equal(value, expected[key])
    assert load.digest(step) == plain.digest(step)


def test_every_epoch_has_every_row_once_in_a_new_order(concat):
  rows = concat.rows("train", SEQ)
  num = len(rows)
  expected = sorted(tuple(rows[r]["tokens_T"].tolist()) for r in range(num))
  orders = []
  for seed in (0, 1):
    load = loader_of(concat, batch=1, seed=seed)
    for epoch in range(3):
      assert load.epoch(epoch * num) == epoch
      steps = range(epoch * num, (epoch + 1) * num)
      orders.append([load._row(s, 0)["tokens_T"].tolist() for s in steps])
      assert sorted(map(tuple, orders[-1])) == expected
  assert len({str(order) for order in orders}) == 6


def test_the_order_is_that_of_the_first_release():
  # Another order (of a newer grain, say) would change the data of runs that resume.
  places = [*range(5), 100, 10**9]
  drawn = loader._shuffled(Joined([range(100)], [1.0]), batch=1, seed=0)
  assert [drawn[i] for i in places] == [71, 23, 90, 5, 80, 41, 56]
  parts = [range(100), range(200, 210)]
  mixed = loader._shuffled(Joined(parts, [0.5, 0.5]), batch=1, seed=0)
  assert [mixed[i] for i in places] == [71, 105, 23, 104, 90, 45, 28]
  carried = loader._Carried(Joined([range(100)], [1.0]), batch=3, seed=0)
  assert [carried[i] for i in (0, 1, 2, 3, 300)] == [74, 7, 40, 75, 74]


def test_rows_are_read_once_for_all_replicas(packed):
  rows, mesh = Counted(packed.rows("train", SEQ)), mesh_of(8, data=2, tensor=4)
  Loader(rows, batch=8, mesh=mesh, order="once")(1)
  assert sorted(rows.read) == list(range(8, 16))


@given(batch=st.integers(1, 9))
def test_evaluation_sees_each_token_once_whatever_the_batch(concat, packed, batch):
  for data in (concat, packed):
    load = loader_of(data, "heldout", batch=batch)
    parts = {"tokens_BT": [], "targets_BT": []}
    for step in range(len(load)):
      arrays = load(step)
      real = np.asarray(arrays["weights_BT"]) == 1
      for key, actual in parts.items():
        actual.append(np.asarray(arrays[key])[real])
    stream = data.corpora[0].tokens("heldout")[:]
    actual = np.concatenate(parts["targets_BT"])
    if data is concat:
      np.testing.assert_array_equal(actual, stream[1:])
      np.testing.assert_array_equal(np.concatenate(parts["tokens_BT"]), stream[:-1])
    else:
      np.testing.assert_array_equal(np.sort(actual), np.sort(stream))
    with pytest.raises(IndexError):
      load(len(load))


def test_train_can_be_read_in_order(concat):
  load, rows = loader_of(concat, order="once"), concat.rows("train", SEQ)
  assert len(load) == -(-len(rows) // 8)
  np.testing.assert_array_equal(load(1)["tokens_BT"][0], rows[8]["tokens_T"])


def test_a_mixture_keeps_its_proportions_and_its_epochs(sources):
  mixture = dataset_of(sources, "large", "small", tokenizer="bpe-300", weights=(1, 3))
  load = loader_of(mixture, batch=4)
  rows = mixture.rows("train", SEQ)
  (first, _), (second, _) = rows.groups()
  small_rows = [rows[index] for index in range(first, first + second)]
  small_lines = {tuple(row["tokens_T"].tolist()) for row in small_rows}
  lines = [line for step in range(60) for line in lines_of(load(step))]
  flags = np.array([line in small_lines for line in lines])
  counts = np.cumsum(flags)
  assert np.abs(counts - 0.75 * np.arange(1, len(flags) + 1)).max() <= 1
  small = [line for line, flag in zip(lines, flags, strict=True) if flag]
  num = len(small_lines)
  assert set(small[:num]) == set(small[num : 2 * num]) == small_lines
  assert small[:num] != small[num : 2 * num]
  assert load.epoch(60) == pytest.approx(180 / num)


@pytest.mark.parametrize("kind", ["concat", "first_fit"])
def test_evaluation_of_a_mixture_sees_each_token_of_each_source_once(sources, kind):
  mixture = dataset_of(sources, "large", "small", rows=kind, weights=(1, 3))
  load = loader_of(mixture, "heldout")
  batches = [load(step) for step in range(len(load))]
  actual = np.concatenate(
    [np.asarray(b["targets_BT"])[np.asarray(b["weights_BT"]) == 1] for b in batches]
  )
  streams = [corpus.tokens("heldout")[:] for corpus in mixture.corpora]
  if kind == "concat":  # a stream's first token is not a target
    np.testing.assert_array_equal(actual, np.concatenate([s[1:] for s in streams]))
  else:
    np.testing.assert_array_equal(np.sort(actual), np.sort(np.concatenate(streams)))
  with pytest.raises(ValueError, match="a mixture has no length"):
    len(loader_of(mixture))


class Labelled(Rows):
  """Rows with a scalar each, which a batch holds as label_B."""

  def __len__(self):
    return 11

  def __getitem__(self, index):
    return {"tokens_T": np.full(SEQ, index, np.int32), "label_": np.array(index)}

  def padding(self):
    return self[-1]


def test_a_number_a_row_is_split_over_the_batch():
  load = Loader(Labelled(), batch=8, mesh=mesh_of(8, data=4, tensor=2), order="once")
  batch = load(1)
  assert batch["label_B"].tolist() == [8, 9, 10, -1, -1, -1, -1, -1]
  assert {s.data.shape for s in batch["label_B"].addressable_shards} == {(2,)}


def test_two_processes_read_only_their_rows(sources, concat):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  script = pathlib.Path(__file__).with_name("loader_pair.py")
  command = [sys.executable, script, str(port)]
  pair = [
    subprocess.Popen(
      [*command, str(index), f"text:{sources / 'large.txt'}", sources / "cache"],
      env=os.environ | {"PYTHONPATH": str(ROOT)},
      stdout=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  outputs = [process.communicate()[0].splitlines() for process in pair]
  assert [process.returncode for process in pair] == [0, 0]
  outputs = [[json.loads(line) for line in lines] for lines in outputs]
  load = loader_of(concat, seed=3)
  for step, first, second in zip((0, 5), *outputs, strict=True):
    (read, shards, digest), (other_read, other_shards, other_digest) = first, second
    assert len(read) == len(other_read) == 4
    assert not set(read) & set(other_read)
    assert digest == other_digest == load.digest(step)
    shards |= other_shards
    whole = [row for start in sorted(shards, key=int) for row in shards[start]]
    assert whole == np.asarray(load(step)["tokens_BT"]).tolist()


def threads():
  return [t for t in threading.enumerate() if t.name.startswith("loader")]


@pytest.mark.parametrize("steps", [range(3, 8), (7, 0, 7)])
def test_prefetch_is_the_steps_in_order(concat, steps):
  load = loader_of(concat)
  batches = list(load.prefetch(iter(steps)))
  assert len(batches) == len(steps)
  for step, batch in zip(steps, batches, strict=True):
    assert lines_of(batch) == lines_of(load(step))
  assert not threads()


def test_closing_prefetch_ends_its_thread(concat):
  ahead = loader_of(concat).prefetch(itertools.count())
  next(ahead)
  assert len(threads()) == 1
  ahead.close()
  assert not threads()


def test_errors_of_the_thread_reach_the_consumer(concat, monkeypatch):
  load = loader_of(concat)
  row = load._row

  def failing_row(step, place):
    if step == 2:
      raise OSError("the disk is gone")
    return row(step, place)

  monkeypatch.setattr(load, "_row", failing_row)
  batches = load.prefetch(itertools.count())
  next(batches), next(batches)
  with pytest.raises(OSError, match="the disk is gone"):
    next(batches)
  assert not threads()


def test_digest_tells_steps_and_seeds_apart(concat):
  load, reseeded = loader_of(concat), loader_of(concat, seed=1)
  assert len({load.digest(0), load.digest(1), reseeded.digest(0)}) == 3
  assert load.digest(0) == loader_of(concat).digest(0)


def test_wrong_inputs_are_refused(sources, concat):
  with pytest.raises(ValueError, match=r"batch=6 .* mesh data\*fsdp=4"):
    loader_of(concat, batch=6, mesh=mesh_of(4, data=4))
  with pytest.raises(ValueError, match=r"seq=16 .* mesh context=5"):
    loader_of(concat, mesh=mesh_of(5, context=5))
  with pytest.raises(ValueError, match="batch=0; wanted 1 or more"):
    loader_of(concat, batch=0)
  with pytest.raises(ValueError, match="no split 'test'"):
    loader_of(concat, "test")
  with pytest.raises(ValueError, match="no order 'twice'; found: shuffled, carried"):
    loader_of(concat, order="twice")
  stream = dataset_of(sources, "small", rows="stream")
  with pytest.raises(ValueError, match=r"row of text for each of batch=5000, .* 50;"):
    loader_of(stream, batch=5000, order="carried")
