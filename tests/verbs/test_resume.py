"""Resuming: a run that was cut anywhere ends with the same bits, on any mesh."""

import functools
import itertools
import os
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import processes
import pytest

from lm.data import Data, prepare
from lm.data.loader import Loader
from lm.letters import make_mesh

# LM_KILLS=20 LM_KILL_SEED=1 ./launch.sh test tests/verbs/test_resume.py -k killed
KILLS = int(os.environ.get("LM_KILLS", 4))
KILL_SEED = int(os.environ.get("LM_KILL_SEED", 0))
STEPS = 4 * KILLS
# Everything with state or randomness: moments, an average, micro-batches, dropout.
RICH = dict(
  num_steps=STEPS,
  model__dropout=0.1,
  optim__ema=0.9,
  optim__accumulate=2,
  mesh__fsdp=2,
  eval__every=4,
  checkpoint__every=1,
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


def train(workdir, text, *, devices=1, spy=None, **values):
  result = processes.run(
    "train", *processes.flags(workdir, text, **values), devices=devices, spy=spy
  )
  assert result.code == 0, result.err
  return result


@pytest.fixture(scope="module")
def rich(text, tmp_path_factory):
  """Returns the folder of a run that was not cut."""
  folder = tmp_path_factory.mktemp("rich") / "run"
  train(folder, text, devices=2, **RICH)
  return folder


def steps_of(rows):
  return [row["step"] for row in rows]


def test_one_line_for_every_step_and_evaluation(rich):
  rows = processes.metrics(rich)
  trained = [row for row in rows if "train/loss" in row]
  assert steps_of(trained) == list(range(1, STEPS + 1))
  assert steps_of(row for row in rows if "eval/nats_per_token" in row) == [
    *range(4, STEPS + 1, 4)
  ]


def moments(folder, rng):
  """Returns claims that hold at random moments, in order, every other within a save."""
  saves = itertools.cycle(["*", "*.saving", "*", "*.saving/state/*"])
  num_lines = lambda: (folder / "metrics.jsonl").read_bytes().count(b"\n")

  def moment(share, pattern):
    if not (folder / "metrics.jsonl").exists() or num_lines() < share * STEPS:
      return False
    late = (
      num_lines() > STEPS
    )  # of 5/4 STEPS lines, so that it is killed before its end
    return late or share == 0 or any((folder / "checkpoints").glob(pattern))

  shares = [0, *sorted(rng.uniform(0, 0.9) for _ in range(KILLS - 1))]
  return [functools.partial(moment, *pair) for pair in zip(shares, saves, strict=False)]


def test_killed_at_any_moment_it_ends_with_the_same_bits(rich, text, tmp_path):
  folder = tmp_path / "run"
  flags = processes.flags(folder, text, **RICH)
  print(f"LM_KILL_SEED={KILL_SEED}")
  for moment in moments(folder, random.Random(KILL_SEED)):
    cut = processes.start("train", *flags, devices=2)
    assert cut.until(moment).kill().code == -9
    steps = sorted(path.name for path in (folder / "checkpoints").iterdir())
    print("killed; on the disk are", *steps)
  result = train(folder, text, devices=2, **RICH)
  assert "continues after step" in result.out
  processes.assert_same_bits(folder, rich, STEPS)


@pytest.mark.parametrize(
  "values",
  [
    dict(optim__name="adafactor", optim__betas=(), data__rows="first_fit"),
    dict(optim__name="muon", optim__schedule="wsd", model__remat="full"),
  ],
  ids=["adafactor-first_fit", "muon-remat"],
)
def test_stopped_and_gone_on_equals_never_stopped(values, text, tmp_path):
  """Uses a constant schedule, so that a run of 6 steps begins like one of 10."""
  values = values | dict(optim__schedule="constant", checkpoint__every=3)
  train(tmp_path / "cut", text, num_steps=6, **values)
  train(tmp_path / "cut", text, num_steps=10, **values)
  train(tmp_path / "whole", text, num_steps=10, **values)
  whole = [row for row in processes.metrics(tmp_path / "whole") if "train/loss" in row]
  cut = [row for row in processes.metrics(tmp_path / "cut") if "train/loss" in row]
  assert cut == whole
  actual, expected = (
    processes.leaves(tmp_path / name, 10) for name in ("cut", "whole")
  )
  assert all(actual[name].tobytes() == expected[name].tobytes() for name in expected)


# Other devices

# Adam's first updates are signs of gradients: rounding moves weights by 2 lr there.
PLAIN = dict(optim__schedule="constant", optim__lr=1e-3, checkpoint__every=4)


@pytest.fixture(scope="module")
def plain(text, tmp_path_factory):
  """Returns the folder of 12 steps on one device, with a constant schedule."""
  folder = tmp_path_factory.mktemp("plain") / "run"
  spy = ("note_batches", f"{folder}.batches")
  train(folder, text, spy=spy, num_steps=12, **PLAIN)
  return folder


def batches(folder) -> dict:
  """Returns {step: hash of its batch}, as the spy wrote them."""
  lines = Path(f"{folder}.batches").read_text().splitlines()
  return dict(line.split() for line in lines)


def losses(folder) -> list:
  return [row["train/loss"] for row in processes.metrics(folder) if "train/loss" in row]


def test_another_mesh_goes_on_with_the_same_tokens_and_losses(plain, text, tmp_path):
  folder = tmp_path / "run"
  meshes = [
    (8, dict(mesh__data=2, mesh__fsdp=2, mesh__tensor=2)),
    (1, {}),
    (2, dict(mesh__data=1, mesh__tensor=2)),
    (8, dict(mesh__fsdp=8)),
  ]
  for index, (devices, mesh) in enumerate(meshes, start=1):
    spy = ("note_batches", f"{folder}.batches")
    values = PLAIN | mesh | dict(num_steps=3 * index, checkpoint__every=0)
    train(folder, text, devices=devices, spy=spy, **values)
  # The loader may be ahead of a run that ends, so it reads more than is trained on.
  assert batches(folder).items() >= batches(plain).items()
  actual, expected = losses(folder), losses(plain)
  assert len(set(actual)) > 6
  np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_computed_otherwise_it_goes_on_with_the_same_losses(plain, text, tmp_path):
  """Resumes with depth unrolled, recomputation and micro-batches."""
  folder = tmp_path / "run"
  shutil.copytree(plain, folder)
  shutil.rmtree(folder / "checkpoints" / "12")
  changes = dict(model__scan=False, model__remat="full", optim__accumulate=2)
  result = train(folder, text, num_steps=12, **PLAIN, **changes)
  assert "continues after step 8" in result.out
  actual, expected = losses(folder), losses(plain)
  assert actual[8:] != expected[8:]  # equal bits would mean the same computation
  np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_the_digest_of_a_batch_is_the_same_on_every_mesh(text):
  data = Data(source=f"text:{text}", cache=str(text.parent / "cache"))
  rows = prepare(data, seq=16, log=lambda line: None).rows("train", 16)
  sizes = [dict(data=8), dict(fsdp=4, tensor=2), dict(data=2, context=4), dict(data=1)]
  streams = {}
  for size in sizes:
    mesh = make_mesh(jax.devices()[: int(np.prod(list(size.values())))], **size)
    loader = Loader(rows, batch=8, seed=5, mesh=mesh)
    streams[str(size)] = [
      (loader.digest(step), np.asarray(loader(step)["tokens_BT"]).tobytes())
      for step in (0, 1, 700)
    ]
  first, *others = streams.values()
  assert all(stream == first for stream in others)
  assert len({digest for digest, _ in first}) == 3


# Damage


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def cut(path):
  path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [flip, cut])
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
def test_a_damaged_checkpoint_is_noticed_and_made_again(
  harm, finished, plain, text, tmp_path
):
  """Covers a finished run, too, which otherwise has no steps left."""
  folder = tmp_path / "run"
  shutil.copytree(plain, folder)
  if not finished:
    shutil.rmtree(folder / "checkpoints" / "12")
  newest = folder / "checkpoints" / ("12" if finished else "8")
  files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_size > 99]
  print(f"LM_KILL_SEED={KILL_SEED}")
  harmed = random.Random(f"{KILL_SEED} {harm.__name__} {finished}").choice(
    sorted(files)
  )
  harm(harmed)
  result = train(folder, text, num_steps=12, **PLAIN)
  assert (
    f"checkpoint {newest.name} is damaged ({harmed.relative_to(newest)}" in result.err
  )
  assert f"set aside as {newest.name}.damaged" in result.err
  back = 8 if finished else 4
  assert f"going on from checkpoint {back}, the newest without damage" in result.err
  assert f"continues after step {back}" in result.out
  processes.assert_same_bits(folder, plain, 12)


def test_nothing_good_left_is_an_error_and_the_next_start_is_a_new_one(
  plain, text, tmp_path
):
  folder = tmp_path / "run"
  shutil.copytree(plain, folder)
  for step in (folder / "checkpoints").iterdir():
    (step / "SHA256SUMS").unlink()
  flags = processes.flags(folder, text, num_steps=12, **PLAIN)
  refused = processes.run("train", *flags)
  assert refused.code == 2
  error = refused.err.splitlines()[-1]
  assert "no good checkpoint" in error and "the same command starts anew" in error
  assert processes.run("train", *flags).code == 0
  processes.assert_same_bits(folder, plain, 12)


# Starting from the parameters of another run


def test_a_run_starts_from_the_parameters_of_another(plain, text, tmp_path):
  values = dict(init__path=plain, num_steps=1, optim__lr=0.0, optim__ema=0.5)
  train(tmp_path / "run", text, **values)
  actual, expected = processes.leaves(tmp_path / "run", 1), processes.leaves(plain, 12)
  names = [name for name in expected if name.startswith("['params']")]
  for name in names:
    assert actual[name].tobytes() == expected[name].tobytes()
    average = actual[name.replace("params", "ema", 1)]
    np.testing.assert_allclose(average, expected[name], rtol=1e-6)
  assert len(names) > 5
  # Other runs start from the average, if there is one.
  from_average = dict(init__path=tmp_path / "run", num_steps=1, optim__lr=0.0)
  train(tmp_path / "next", text, **from_average)
  started = processes.leaves(tmp_path / "next", 1)
  for name in names:
    average = actual[name.replace("params", "ema", 1)]
    assert started[name].tobytes() == average.tobytes()
