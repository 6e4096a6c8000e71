"""The result of a run: what it has spent, and how well it does on held-out data.

Read from the files of its folder: config.json, manifest.txt and metrics.jsonl.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from lm import log
from lm.errors import Mistake
from lm.stores.run import RunFolder

# The one score that can be compared between tokenizers and objectives.
COMPARABLE = "bits_per_byte"
DEFAULT_SCORE = "loss"
# Corruptions that show text behind what is to be named: the bits per byte of such a run
# are those of pseudo-perplexity (arXiv:1910.14659), easier to have few of.
PSEUDO = ("masked", "pairs", "spans")


@dataclass(frozen=True)
class Result:
  """One run at its end."""

  name: str  # of its folder
  family: str
  objective: str
  parameters: int
  tokens: int  # seen in training
  flops: float  # of the model, by the book, whatever was recomputed
  seconds: float  # of training, with evaluations and compiling
  metric: str  # name of the score, such as "bits_per_byte"
  larger_is_better: bool
  score: float  # held out, of the last evaluation
  points: tuple  # (flops, seconds, score) of every evaluation
  config: dict  # nested, as config.json

  @property
  def unit(self) -> str:
    """The metric's name in words."""
    words = self.metric.replace("_", " ")
    return f"pseudo {words}" if self.is_pseudo else words

  @property
  def is_pseudo(self) -> bool:
    """True for bits per byte of text of which the model sees what comes behind."""
    corruption = self.config.get("data", {}).get("corrupt", {}).get("name", "")
    return self.metric == COMPARABLE and corruption in PSEUDO

  @property
  def comparable_with(self) -> tuple:
    """Equal for two results whose scores can be compared."""
    return ("",) if self.metric == COMPARABLE else (self.objective, self.metric)


def read(path) -> Result:
  """Returns the result of the run at `path`.

  Its score is the held-out bits per byte, if the run has that; else the metric that the
  config names as eval.score ("-accuracy": more is better), or the loss. Raises Mistake
  for a folder that is no run's and for a run without an evaluation.
  """
  folder = RunFolder(path)
  config = folder.config()
  rows = log.read(folder.metrics_file) if folder.metrics_file.exists() else []
  trained = [row for row in rows if "train/flops" in row]
  metrics = {k.removeprefix("eval/") for row in rows for k in row if k[:5] == "eval/"}
  if not (trained and metrics):
    raise Mistake(f"{path} has no evaluation yet; train it to its end first")
  metric, larger_is_better = _score(path, config, metrics)
  flops = {row["step"]: row["train/flops"] for row in trained}
  points = [
    (flops.get(row["step"], math.nan), row["time_s"], row[f"eval/{metric}"])
    for row in rows
    if f"eval/{metric}" in row
  ]
  last = trained[-1]
  return Result(
    name=Path(path).resolve().name,
    family=config["model"]["family"],
    objective=config["objective"],
    parameters=count_parameters(folder),
    tokens=int(last["train/seen_tokens"]),
    flops=last["train/flops"],
    seconds=last["time_s"],
    metric=metric,
    larger_is_better=larger_is_better,
    score=points[-1][2],
    points=tuple(points),
    config=config,
  )


def _score(path, config, metrics) -> tuple[str, bool]:
  """(name of the metric that scores a run, whether more of it is better)."""
  if COMPARABLE in metrics:
    return COMPARABLE, False
  score = config["eval"].get("score", DEFAULT_SCORE)  # older runs name none
  name = score.removeprefix("-")
  if name not in metrics:
    raise Mistake(
      f"{path} was not evaluated by its score {name!r}; its metrics.jsonl has "
      f"{', '.join(sorted(metrics))}"
    )
  return name, score.startswith("-")


def count_parameters(folder: RunFolder) -> int:
  """The number of trained numbers of a run, by its manifest."""
  with (folder.path / "manifest.txt").open(encoding="utf-8") as lines:
    rows = [line.split() for line in lines]
  shapes = [row[2] for row in rows if row[0].startswith("params/")]
  return sum(math.prod(map(int, shape.split("x"))) for shape in shapes)
