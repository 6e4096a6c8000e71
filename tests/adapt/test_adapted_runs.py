"""Adapted runs by every verb: trained, killed, scored, written, without their base."""

import json
import shutil

import numpy as np
import processes
import pytest

import lm
from lm import trees

LORA = ("adapt.name=lora", "adapt.rank=2", "optim.lr=1e-2", "optim.decay=0.0")


def flags(folder, name, *changes):
  small = processes.flags(folder / name, processes.corpus(folder))
  return [*small, *(f"--config.{change}" for change in changes)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """Returns a folder with the run "base" and its text."""
  folder = tmp_path_factory.mktemp("adapted")
  trained = processes.run("train", *flags(folder, "base"))
  assert trained.code == 0, trained.err
  return folder


def test_a_run_trains_and_keeps_its_adapters_alone(base):
  changes = [
    f"init.path={base / 'base'}",
    "num_steps=6",
    "checkpoint.every=2",
    "eval.batches=0",
    "model.dtype=float32",  # or merged matrices are rounded once more
    *LORA,
  ]
  trained = processes.run("train", *flags(base, "lora", *changes))
  assert trained.code == 0, trained.err
  run, steps = base / "lora", base / "lora" / "checkpoints"
  note = json.loads((steps / "6" / "checkpoint.json").read_text())
  params = [path for path in note["arrays"] if path.startswith("params/")]
  assert params and all(path.endswith(("/a", "/b")) for path in params)
  assert not any(path.startswith("given") for path in note["arrays"])

  model, params, _ = lm.load(run)
  own = lm.load(base / "base")[1]
  assert trees.describe(params) == trees.describe(own)
  total = sum(leaf.size for leaf in trees.by_path(own).values())
  [line] = [line for line in trained.out.splitlines() if line.startswith("model")]
  assert line.endswith(f"beside {total:,} parameters") and ": trains " in line

  # The same to the bit after a kill; and what it says of itself is what it does.
  parts = flags(base, "parts", *changes)
  killed = processes.start("train", *parts)
  killed.until((base / "parts" / "checkpoints" / "2").exists).kill()
  assert processes.run("train", *parts).code == 0
  processes.assert_same_bits(run, base / "parts", 6)
  scored = processes.run("evaluate", f"--workdir={run}")
  loss = json.loads(scored.out)["eval/loss"]
  logged = [row for row in processes.metrics(run) if "eval/loss" in row]
  assert loss == pytest.approx(logged[-1]["eval/loss"], rel=1e-5)
  assert processes.run("generate", f"--workdir={run}", "--prompt=a").code == 0

  # Elsewhere it is an ordinary model, and a base to adapt again.
  hf = base / "hf"
  assert processes.run("convert", f"--from={run}", f"--to={hf}").code == 0
  tokens_BT = np.arange(8)[None] % model.config.vocab
  logits = [
    m.apply({"params": p}, tokens_BT)[0] for m, p, _ in (lm.load(run), lm.load(hf))
  ]
  np.testing.assert_allclose(*logits, atol=1e-5)
  again = [f"init.path={run}", "num_steps=1", *LORA]
  assert processes.run("train", *flags(base, "again", *again)).code == 0


def test_without_its_base_it_says_what_it_needs(base):
  changes = [f"init.path={base / 'moved'}", "num_steps=1", *LORA]
  shutil.copytree(base / "base", base / "moved")
  assert processes.run("train", *flags(base, "left", *changes)).code == 0
  shutil.rmtree(base / "moved")
  for verb in ("evaluate", "generate"):
    line = processes.refused(verb, f"--workdir={base / 'left'}")
    assert f"{base / 'left'} adapts {base / 'moved'} and needs it to be read" in line


@pytest.mark.parametrize(
  "changes, message",
  [
    (LORA, "adapt.name='lora' freezes what init.path has learnt; wanted init.path"),
    (["adapt.name=laura"], "no 'laura' in lm/adapt; did you mean 'lora'"),
    ([*LORA, "adapt.wher=x"], "the config has no value 'wher'; did you mean 'where'?"),
  ],
)
def test_what_does_not_fit_is_one_line(changes, message, base):
  assert message in processes.refused("train", *flags(base, "refused", *changes))
  assert not (base / "refused").exists()
