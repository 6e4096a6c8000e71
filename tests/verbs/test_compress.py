"""Verb `compress`: its results are ordinary folders for every other verb."""

import json
import re

import numpy as np
import processes
import pytest

import lm
from lm import trees
from lm.nn import linear, quantised

LORA = ("adapt.name=lora", "adapt.rank=2", "optim.lr=1e-2", "optim.decay=0.0")


def flags(folder, name, *changes):
  small = processes.flags(folder / name, processes.corpus(folder))
  return [*small, *(f"--config.{change}" for change in changes)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Returns a folder with the run "base", and "small", the same in int8."""
  folder = tmp_path_factory.mktemp("compressed")
  trained = processes.run("train", *flags(folder, "base", "model.dtype=float32"))
  assert trained.code == 0, trained.err
  result = compress(folder, "small", "int8")
  assert re.search(r"\n[\d,]+ bytes of parameters became [\d,]+: 3\.\d\dx", result.out)
  assert f"evaluate --workdir={folder / 'small'}\n" in result.out
  return folder


def compress(folder, name, method):
  ends = (f"--workdir={folder / 'base'}", f"--out={folder / name}")
  result = processes.run("compress", *ends, f"--method={method}")
  assert result.code == 0, result.err
  return result


def score(workdir) -> float:
  result = processes.run("evaluate", f"--workdir={workdir}")
  assert result.code == 0, result.err
  return json.loads(result.out)["eval/loss"]


def test_it_evaluates_and_writes(folder):
  assert score(folder / "small") == pytest.approx(score(folder / "base"), rel=0.01)
  arguments = (f"--workdir={folder / 'small'}", "--prompt=the", "--max_tokens=4")
  assert processes.run("generate", *arguments).code == 0
  params = lm.load(folder / "small")[1]
  leaves = trees.by_path(params, is_leaf=quantised.is_quantised)
  assert quantised.name_of(leaves["embed/table"]) == "int8"


def test_lora_is_trained_beside_it(folder):
  init = f"init.path={folder / 'small'}"
  changes = [init, "num_steps=4", "eval.batches=0", "model.dtype=float32"]
  trained = processes.run("train", *flags(folder, "lora", *changes, *LORA))
  assert trained.code == 0, trained.err
  logged = [row for row in processes.metrics(folder / "lora") if "eval/loss" in row]
  assert score(folder / "lora") == pytest.approx(logged[-1]["eval/loss"], rel=1e-5)
  params = lm.load(folder / "lora")[1]
  q = params["blocks"]["layer"]["attention"]["q"]
  assert quantised.is_quantised(q.base) and q.base.values.dtype == "int8"

  # On two devices the losses are the same, but for what Adam makes of rounding.
  parts = [*flags(folder, "mesh", *changes, *LORA), "--config.mesh.fsdp=2"]
  trained = processes.run("train", *parts, devices=2)
  assert trained.code == 0, trained.err
  other = [row for row in processes.metrics(folder / "mesh") if "eval/loss" in row]
  assert other[-1]["eval/loss"] == pytest.approx(logged[-1]["eval/loss"], rel=1e-3)

  # Elsewhere it is written in full.
  for name in ("small", "lora"):
    ends = (f"--from={folder / name}", f"--to={folder / name}-hf")
    written = processes.run("convert", *ends)
    assert written.code == 0, written.err
    assert "is quantised; its numbers are written in full" in written.err
    model, params, _ = lm.load(folder / name)
    tokens_BT = np.arange(8)[None] % model.config.vocab
    other = lm.load(f"{folder / name}-hf")[:2]
    logits = [m.apply({"params": p}, tokens_BT)[0] for m, p in ((model, params), other)]
    np.testing.assert_allclose(*logits, atol=1e-4)
    assert not any(map(linear.is_weight, trees.by_path(other[1]).values()))


def test_a_pruned_model_is_healed_by_its_whole_one(folder):
  """LoRA beside two of four weights learns from the model that had them all."""
  compress(folder, "nm", "nm")
  teacher = [f"teacher={folder / 'base'}", "objective=distill", "loss.alpha=1.0"]
  changes = [f"init.path={folder / 'nm'}", "num_steps=30", "model.dtype=float32"]
  trained = processes.run("train", *flags(folder, "healed", *changes, *teacher, *LORA))
  assert trained.code == 0, trained.err
  scores = {name: score(folder / name) for name in ("base", "nm", "healed")}
  assert scores["healed"] - scores["base"] < 0.7 * (scores["nm"] - scores["base"])
  q = lm.load(folder / "healed")[1]["blocks"]["layer"]["attention"]["q"]
  assert quantised.name_of(q.base) == "two_of_four"


def test_the_methods_that_read_texts_take_those_of_the_run(folder):
  compress(folder, "gptq", "gptq")
  compress(folder, "int4", "int4")
  scores = {name: score(folder / name) for name in ("gptq", "int4", "base")}
  assert scores["base"] < 1.1 * scores["gptq"] < 1.2 * scores["int4"]


def test_mistakes_are_one_line_and_leave_nothing(folder, tmp_path):
  before = sorted(folder.iterdir())
  base, small = (f"--workdir={folder / name}" for name in ("base", "small"))
  out = f"--out={tmp_path / 'new'}"
  for arguments, message in (
    ((base, f"--out={folder / 'small'}", "--method=int8"), "small exists; choose"),
    ((base, out, "--method=int9"), "no 'int9' in lm/compress; did you mean 'int8'"),
    ((small, out, "--method=int4"), "small is quantised already, as int8; name the"),
    ((base, out), "--method is missing"),
  ):
    assert message in processes.refused("compress", *arguments)
  whole = flags(tmp_path, "run", f"init.path={folder / 'small'}")
  assert "in int8, which is not trained itself; train LoRA" in processes.refused(
    "train", *whole
  )
  line = processes.refused("train", *flags(folder, "small", "model.dtype=float32"))
  assert "small is a compressed model, which does not train on" in line
  assert not (tmp_path / "run").exists() and not (tmp_path / "new").exists()
  assert [p for p in sorted(folder.iterdir()) if p not in before] == []
