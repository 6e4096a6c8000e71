"""README's row "task, kind of table": one new file each, and a run trains with it."""

import json

import numpy as np
from test_where_it_goes import plant

from experiments import config
from lm import log
from lm.train import compose
from lm.train.config import Experiment
from lm.train.run import run

TABLE = '''
"""Numbers and their names."""

ARGUMENT = "how many"


def read(argument, *, cache):
  texts = [f"item {i} of all" for i in range(int(argument))]
  records = [{"text": text, "odd": str(i % 2)} for i, text in enumerate(texts)]
  return {"train": records[5:], "heldout": records[:5]}
'''

TASK = '''
"""Classification in which the answer is the class's number."""

import dataclasses

from lm.tasks import classify


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(classify.Task):
  """Classes by number."""

  label: str = "odd"
  scale: float = 2.0  # of the number

  def shown(self, answer):
    return str(self.scale * self.labels.index(answer["label"]))
'''


def test_a_new_task_on_a_new_kind_of_table(tmp_path, monkeypatch):
  plant(monkeypatch, tmp_path / "a", "lm.data.tables", "numbers", TABLE)
  plant(monkeypatch, tmp_path / "b", "lm.tasks", "parity", TASK)
  cfg = config.execute("configs/tasks/classify.py")
  cfg.update(dict(num_steps=2, batch=4, seq=32))
  cfg.task = dict(name="parity", train="numbers:40", scale=3.0)
  cfg.model = dict(family="decoder", preset="gpt2-tiny", width=16, layers=1, heads=2)
  cfg.data = dict(tokenizer="bytes")
  values = config.with_task(config.complete(cfg).to_dict())
  assert values["task"]["labels"] == ("0", "1") and values["task"]["scale"] == 3.0
  experiment, quiet = Experiment.of(values), dict(log=lambda line: None)
  plan = compose.plan(experiment, compose.jax.devices()[:1])
  dataset = compose.prepare(experiment, **quiet)
  assert len(dataset.splits.heldout) == 5 and len(dataset.splits.train) == 35
  assert run(plan, dataset, tmp_path / "run", config=values, **quiet) == 2
  rows = log.read(tmp_path / "run" / "metrics.jsonl")
  assert np.isfinite(rows[1]["train/loss"]) and "eval/accuracy" in rows[-1]
  stored = json.loads((tmp_path / "run" / "config.json").read_text())["task"]
  assert stored["name"] == "parity" and stored["scale"] == 3.0
  assert dataset.task.shown({"label": "1"}) == "3.0"
