"""Table "Where does it go?" of the README: one new file, and a run trains with it.

Each file is put into a temporary folder that is made part of its package; nothing else
is edited, and two updates are made as `train` makes them.
"""

import importlib
import json

import numpy as np
import processes
import pytest
import shrink

from experiments import config
from lm import data, log
from lm.train import compose
from lm.train.config import Experiment
from lm.train.run import run

FAMILY = '''
"""Bags of words: every token is predicted from the one before it."""

from dataclasses import dataclass, field

from lm.models import Features, LanguageModel, Traits
from lm.nn.depth import Run
from lm.nn.layers import Embedding, mask_padding


@dataclass(frozen=True)
class Config:
  vocab: int
  context: int = 0
  width: int = 8
  run: Run = field(default_factory=Run)


PRESETS = {}


class Model(LanguageModel):
  config: Config
  traits = Traits(sees="itself")

  def setup(self):
    self.embed = Embedding(size=self.config.vocab, width=self.config.width)

  def features(self, tokens_BT, *, positions_BT=None, segments_BT=None, cache=None,
               train=False):
    return Features(self.embed(tokens_BT))

  def readout(self, x_BTD):
    return mask_padding(self.embed.readout(x_BTD, "float32"), self.config.vocab)
'''

OBJECTIVE = '''
"""Next-token prediction in which easy tokens count less (arXiv:1708.02002)."""

import jax.numpy as jnp

from lm.objectives.scoring import read
from lm.objectives.softmax import cross_entropy


def focal(apply, params, batch, key, *, given=None, train=True, gamma=2.0):
  x_BTD = read(apply, params, batch, key, train).x_BTD
  logits_BTV = apply({"params": params}, x_BTD, method="readout")
  nll_BT, _ = cross_entropy(logits_BTV, batch["targets_BT"])
  weight = jnp.sum(batch["weights_BT"])
  focal_BT = (1 - jnp.exp(-nll_BT)) ** gamma * nll_BT * batch["weights_BT"]
  easy_BT = (nll_BT < 1) * batch["weights_BT"]
  return {"loss": (focal_BT.sum(), weight), "easy_share": (easy_BT.sum(), weight)}
'''

OPTIMISER = """
import optax


def sign(letters, betas=()):
  return optax.scale_by_sign()
"""

SCHEDULE = """
def halved(lr, warmup, num_steps, final):
  return lambda step: lr / 2
"""

SOURCE = '''
"""One document a number."""

from lm.data.sources import _records

VERSION = 1


def documents(argument, *, cache):
  names = [f"document {n}" for n in range(60)]
  return _records.split(names, _records.held_by_place(len(names)), _read)


def content(argument, *, cache):
  return "60"


def _read(name):
  return {"id": name, "text": f"{name} counts one, two, three, four, five"}
'''

ROWS = """
from lm.data.rows import concat

ORDER, HOLDS = "shuffled", "text"
shapes = concat.shapes


def rows(corpus, split, seq):
  return concat.rows(corpus, split, seq)
"""

CORRUPTION = """
import dataclasses

from lm.data.rows import corrupt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption(corrupt.Corruption):
  objectives = ("masked_lm",)

  def shapes(self, row, seq):
    return row

  def bound(self, tokenizer, seq):
    def hide(row, draw, *, rows, view=None):
      return row | {"tokens_T": row["tokens_T"] * 0}

    return hide
"""

# Read by a corruption that does not know it.
MASKED_OBJECTIVE = """
from lm.objectives.masked_lm import masked_lm

CORRUPTIONS = ("masked",)


def twofold(apply, params, batch, key, *, given=None, train=True):
  sums = masked_lm(apply, params, batch, key, given=given, train=train)
  return sums | {"loss": (2 * sums["loss"][0], sums["loss"][1])}
"""

# What is new, its package, the file and what a config then sets.
NEW = {
  "architecture": (
    "lm.models",
    "bag",
    FAMILY,
    dict(model=dict(family="bag", width=8), eval=dict(sample_tokens=0)),
  ),
  "objective and metric": (
    "lm.objectives",
    "focal",
    OBJECTIVE,
    dict(objective="focal", loss=dict(gamma=1.0)),
  ),
  "objective of masked rows": (
    "lm.objectives",
    "twofold",
    MASKED_OBJECTIVE,
    dict(objective="twofold", data=dict(corrupt=dict(name="masked"))),
  ),
  "optimiser": ("lm.optim", "sign", OPTIMISER, dict(optim=dict(name="sign"))),
  "schedule": (
    "lm.optim.schedules",
    "halved",
    SCHEDULE,
    dict(optim=dict(schedule="halved")),
  ),
  "dataset": (
    "lm.data.sources",
    "numbers60",
    SOURCE,
    dict(data=dict(source="numbers60")),
  ),
  "kind of row": ("lm.data.rows", "again", ROWS, dict(data=dict(rows="again"))),
  "corruption": (
    "lm.data.rows.corrupt",
    "zeros",
    CORRUPTION,
    dict(objective="masked_lm", data=dict(corrupt=dict(name="zeros"))),
  ),
}


def plant(monkeypatch, folder, package, name, text):
  """Makes a new folder with one module a part of a package, until the test ends."""
  folder.mkdir()
  (folder / f"{name}.py").write_text(text)
  module = importlib.import_module(package)
  monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
  importlib.invalidate_caches()


def trained(folder, changes, devices=1):
  """Returns the metrics of two updates of a shrunk run with these values."""
  cfg = shrink.get_config()
  base = dict(
    source=f"text:{processes.corpus(folder)}",
    tokenizer="bytes",
    cache=str(folder / "cache"),
  )
  for values in (dict(data=base), changes):
    for group, value in values.items():
      if not isinstance(value, dict):
        cfg[group] = value
      elif group == "model" or group not in cfg:
        cfg[group] = dict(value)
      else:
        cfg[group].update(value)
  values = config.complete(cfg).to_dict()
  experiment, quiet = Experiment.of(values), dict(log=lambda line: None)
  plan = compose.plan(experiment, compose.jax.devices()[:devices])
  dataset = data.prepare(experiment.data, seq=experiment.seq, **quiet)
  assert run(plan, dataset, folder / "run", config=values, **quiet) == 2
  return log.read(folder / "run" / "metrics.jsonl")


@pytest.mark.parametrize("part", list(NEW))
def test_one_new_file_and_a_run_trains_with_it(part, tmp_path, monkeypatch):
  package, name, text, changes = NEW[part]
  plant(monkeypatch, tmp_path / "new", package, name, text)
  rows = trained(tmp_path, changes)
  assert [row["step"] for row in rows] == [1, 2, 2]
  assert np.isfinite(rows[1]["train/loss"])
  assert json.loads((tmp_path / "run" / "config.json").read_text())["num_steps"] == 2
  if "metric" in part:
    assert "train/easy_share" in rows[0] and "eval/easy_share" in rows[-1]


def test_sharding_is_a_value(tmp_path):
  mesh = dict(mesh=dict(fsdp=2, tensor=2))
  losses = []
  for name, changes, devices in (("one", {}, 1), ("four", mesh, 4)):
    (tmp_path / name).mkdir()
    rows = trained(tmp_path / name, changes, devices)
    losses.append([row["train/loss"] for row in rows if "train/loss" in row])
    layout = json.loads((tmp_path / name / "run" / "config.json").read_text())["mesh"]
    assert layout["fsdp"] == (2 if changes else 1)
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
  assert len(losses[0]) == 2


def test_an_array_that_nobody_reads_is_refused(tmp_path, monkeypatch):
  text = ROWS.replace("shapes = concat.shapes", "") + (
    "\n\ndef shapes(seq):\n"
    "  return concat.shapes(seq) | {'mood_T': concat.shapes(seq)['tokens_T']}\n"
  )
  plant(monkeypatch, tmp_path / "new", "lm.data.rows", "moody", text)
  with pytest.raises(ValueError, match="nothing reads mood_BT of a batch: neither"):
    trained(tmp_path, dict(data=dict(rows="moody")))
  assert not (tmp_path / "cache").exists()  # refused before data are prepared
