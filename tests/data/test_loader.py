"""The loader: a batch is a function of (seed, step), on any mesh and by any hosts."""

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

from lm.data import loader
from lm.data.corpus import build, mixture
from lm.data.loader import Loader
from lm.letters import make_mesh, sharding

SEQ = 16
ROOT = pathlib.Path(build.__file__).parents[3]


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


def prepared_of(sources, *names, pack="concat", tokenizer="bytes"):
  return mixture.prepare_all(
    [f"text:{sources / name}.txt" for name in names],
    tokenizer=tokenizer,
    clean={},
    pack=pack,
    seq=SEQ,
    cache=sources / "cache",
    log=lambda line: None,
  )


@pytest.fixture(scope="module")
def prepared(sources):
  return prepared_of(sources, "large")[0]


@pytest.fixture(scope="module")
def packed(sources):
  return prepared_of(sources, "large", pack="first_fit")[0]


def mesh_of(num: int = 1, **sizes):
  return make_mesh(jax.devices()[:num], **sizes)


def loader_of(prepared, split="train", *, batch=8, seed=0, mesh=None, **more):
  mesh = mesh or mesh_of()
  return Loader(prepared, split, batch=batch, seq=SEQ, seed=seed, mesh=mesh, **more)


def lines_of(batch, key="tokens_BT"):
  return [tuple(row) for row in np.asarray(batch[key]).tolist()]


MESHES = [
  (1, {}),
  (2, {"data": 2}),
  (8, {"data": 8}),
  (8, {"data": 2, "fsdp": 2, "tensor": 2}),
  (8, {"fsdp": 2, "context": 4}),
]


@pytest.mark.parametrize(("num", "sizes"), MESHES)
@pytest.mark.parametrize("pack", ["concat", "first_fit"])
def test_a_batch_is_the_same_on_every_mesh(prepared, packed, pack, num, sizes):
  data = prepared if pack == "concat" else packed
  mesh = mesh_of(num, **sizes)
  load, plain = loader_of(data, mesh=mesh), loader_of(data)
  for step in (3, 0, 40):
    batch, wanted = load(step), plain(step)
    assert batch.keys() == wanted.keys()
    for key, value in batch.items():
      assert value.sharding == sharding(mesh, "BT")
      assert value.dtype == (np.float32 if key == "weights_BT" else np.int32)
      np.testing.assert_array_equal(value, wanted[key])
    assert load.digest(step) == plain.digest(step)


def test_every_epoch_has_every_row_once_in_a_new_order(prepared):
  rows = prepared.rows("train")
  num = len(rows)
  wanted = sorted(tuple(rows[r]["tokens_T"].tolist()) for r in range(num))
  orders = []
  for seed in (0, 1):
    load = loader_of(prepared, batch=1, seed=seed)
    for epoch in range(3):
      assert load.epoch(epoch * num) == epoch
      steps = range(epoch * num, (epoch + 1) * num)
      orders.append([load._row(s, 0)["tokens_T"].tolist() for s in steps])
      assert sorted(map(tuple, orders[-1])) == wanted
  assert len({str(order) for order in orders}) == 6


def test_the_order_is_that_of_the_first_release():
  # Another order (of a newer grain, say) would change the data of runs that resume.
  drawn = loader._draw([range(100)], seed=0, shares=[1.0])
  places = [*range(5), 100, 10**9]
  assert [drawn[i] for i in places] == [71, 23, 90, 5, 80, 41, 56]
  mixed = loader._draw([range(100), range(200, 210)], seed=0, shares=[0.5, 0.5])
  assert [mixed[i] for i in places] == [71, 205, 23, 204, 90, 45, 28]


def test_rows_are_read_once_for_all_replicas(packed):
  load = loader_of(packed, mesh=mesh_of(8, data=2, tensor=4))
  rows = Counted(packed.rows("train"))
  load._rows = [rows]
  load._ordered = True
  load(1)
  assert sorted(rows.read) == list(range(8, 16))


@given(batch=st.integers(1, 9))
def test_evaluation_sees_each_token_once_whatever_the_batch(prepared, packed, batch):
  for data in (prepared, packed):
    load = loader_of(data, "heldout", batch=batch, seed=None)
    parts = {"tokens_BT": [], "targets_BT": []}
    for step in range(len(load)):
      held = load(step)
      real = np.asarray(held["weights_BT"]) == 1
      for key, found in parts.items():
        found.append(np.asarray(held[key])[real])
    stream = data.tokens("heldout")[:]
    found = np.concatenate(parts["targets_BT"])
    if data is prepared:
      np.testing.assert_array_equal(found, stream[1:])
      np.testing.assert_array_equal(np.concatenate(parts["tokens_BT"]), stream[:-1])
    else:
      np.testing.assert_array_equal(np.sort(found), np.sort(stream))
    with pytest.raises(IndexError):
      load(len(load))


def test_train_can_be_read_in_order(prepared):
  load = loader_of(prepared, seed=None)
  rows = prepared.rows("train")
  assert len(load) == -(-len(rows) // 8)
  np.testing.assert_array_equal(load(1)["tokens_BT"][0], rows[8]["tokens_T"])


def test_a_mixture_keeps_its_proportions_and_its_epochs(sources):
  both = prepared_of(sources, "large", "small", tokenizer="bpe-300")
  load = loader_of(both, weights=(1, 3), batch=4)
  from_small = {tuple(row["tokens_T"].tolist()) for row in iterate(both[1])}
  seen = [line for step in range(60) for line in lines_of(load(step))]
  flags = np.array([line in from_small for line in seen])
  counts = np.cumsum(flags)
  assert np.abs(counts - 0.75 * np.arange(1, len(flags) + 1)).max() <= 1
  small = [line for line, flag in zip(seen, flags, strict=True) if flag]
  num = len(from_small)
  assert set(small[:num]) == set(small[num : 2 * num]) == from_small
  assert small[:num] != small[num : 2 * num]
  assert load.epoch(60) == pytest.approx(180 / num)


@pytest.mark.parametrize("pack", ["concat", "first_fit"])
def test_evaluation_of_a_mixture_sees_each_token_of_each_source_once(sources, pack):
  both = prepared_of(sources, "large", "small", pack=pack)
  load = loader_of(both, "heldout", seed=None, weights=(1, 3))
  batches = [load(step) for step in range(len(load))]
  real = [
    np.asarray(b["targets_BT"])[np.asarray(b["weights_BT"]) == 1] for b in batches
  ]
  found = np.concatenate(real)
  streams = [part.tokens("heldout")[:] for part in both]
  if pack == "concat":  # a stream's first token is not a target
    np.testing.assert_array_equal(found, np.concatenate([s[1:] for s in streams]))
  else:
    np.testing.assert_array_equal(np.sort(found), np.sort(np.concatenate(streams)))
  assert load.epoch(len(load)) >= 1


def iterate(prepared):
  rows = prepared.rows("train")
  return [rows[r] for r in range(len(rows))]


def test_two_processes_read_only_their_rows(sources, prepared):
  with socket.socket() as held:
    held.bind(("localhost", 0))
    port = held.getsockname()[1]
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
  told = [process.communicate()[0].splitlines() for process in pair]
  assert [process.returncode for process in pair] == [0, 0]
  told = [[json.loads(line) for line in lines] for lines in told]
  load = loader_of(prepared, seed=3)
  for step, one, two in zip((0, 5), *told, strict=True):
    (read_one, held_one, digest_one), (read_two, held_two, digest_two) = one, two
    assert len(read_one) == len(read_two) == 4
    assert not set(read_one) & set(read_two)
    assert digest_one == digest_two == load.digest(step)
    held = held_one | held_two
    whole = [row for start in sorted(held, key=int) for row in held[start]]
    assert whole == np.asarray(load(step)["tokens_BT"]).tolist()


def threads():
  return [t for t in threading.enumerate() if t.name.startswith("loader")]


def test_prefetch_is_the_steps_in_order(prepared):
  load = loader_of(prepared)
  found = list(load.prefetch(3, 8))
  assert len(found) == 5
  for step, batch in enumerate(found, 3):
    assert lines_of(batch) == lines_of(load(step))
  ends = loader_of(prepared, "heldout", seed=None)
  assert len(list(ends.prefetch(0))) == len(ends)
  assert not threads()


def test_closing_prefetch_ends_its_thread(prepared):
  ahead = loader_of(prepared).prefetch(0)
  next(ahead)
  assert len(threads()) == 1
  ahead.close()
  assert not threads()


def test_errors_of_the_thread_reach_the_consumer(prepared, monkeypatch):
  load = loader_of(prepared)
  row = load._row

  def broken(step, place):
    if step == 2:
      raise OSError("the disk is gone")
    return row(step, place)

  monkeypatch.setattr(load, "_row", broken)
  found = load.prefetch(0)
  next(found), next(found)
  with pytest.raises(OSError, match="the disk is gone"):
    next(found)
  assert not threads()


def test_digest_tells_steps_and_seeds_apart(prepared):
  one, two = loader_of(prepared), loader_of(prepared, seed=1)
  assert len({one.digest(0), one.digest(1), two.digest(0)}) == 3
  assert one.digest(0) == loader_of(prepared).digest(0)


def test_wrong_inputs_are_told(sources, prepared, packed):
  with pytest.raises(ValueError, match=r"batch=6 .* mesh data\*fsdp=4"):
    loader_of(prepared, batch=6, mesh=mesh_of(4, data=4))
  with pytest.raises(ValueError, match=r"seq=16 .* mesh context=5"):
    loader_of(prepared, mesh=mesh_of(5, context=5))
  with pytest.raises(ValueError, match="no split 'test'"):
    loader_of(prepared, "test")
  with pytest.raises(ValueError, match="differ in tokenizer or pack"):
    loader_of([prepared, packed])
  for weights in ((1,), (1, 0), (1, -1), (1, float("nan"))):
    with pytest.raises(ValueError, match="one above 0 for each"):
      loader_of([prepared, prepared], weights=weights)
