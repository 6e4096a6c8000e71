"""Several runs on one axis: what each has spent, and how well it does on held-out text.

All of it is read from the runs' folders: config.json, manifest.txt and metrics.jsonl.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from lm import log, metrics
from lm.errors import Mistake
from lm.stores.run import RunFolder

SPENT = {
  "training FLOPs": "flops",
  "training seconds": "seconds",
  "parameters": "parameters",
}


@dataclass(frozen=True)
class Result:
  """One run at its end."""

  name: str  # of its folder
  kind: str  # family and objective
  parameters: int
  tokens: int  # seen in training
  flops: float  # of the model, by the book, whatever was recomputed
  seconds: float  # of training, with evaluations and compiling
  score: float  # held out, less is better
  unit: str  # of the score: "bits per byte" can be compared, others stand alone
  points: tuple  # (flops, seconds, score) of every evaluation


def read(path) -> Result:
  """The result of a run; Mistake when it was never evaluated."""
  folder = RunFolder(path)
  config = folder.config()
  rows = log.read(folder.metrics_file) if folder.metrics_file.exists() else []
  trained = [row for row in rows if "train/flops" in row]
  units = [u for u in metrics.UNITS if any(f"eval/{u}" in row for row in rows)]
  if not (trained and units):
    raise Mistake(f"{path} has no evaluation yet; train it to its end first")
  flops = {row["step"]: row["train/flops"] for row in trained}
  key = f"eval/{units[0]}"
  points = [
    (flops.get(row["step"], math.nan), row["time_s"], row[key])
    for row in rows
    if key in row
  ]
  last = trained[-1]
  return Result(
    name=Path(path).resolve().name,
    kind=f"{config['model']['family']}, {config['objective']}",
    parameters=parameters(folder),
    tokens=int(last["train/seen_tokens"]),
    flops=last["train/flops"],
    seconds=last["time_s"],
    score=points[-1][2],
    unit=units[0].replace("_", " "),
    points=tuple(points),
  )


def parameters(folder: RunFolder) -> int:
  """How many numbers a run trains, by its manifest."""
  rows = [line.split() for line in (folder.path / "manifest.txt").open()]
  shapes = [row[2] for row in rows if row[0].startswith("params/")]
  return sum(math.prod(map(int, shape.split("x"))) for shape in shapes)


def table(results) -> str:
  """Markdown, the best in bits per byte first; those of other units behind."""
  lines = [
    "| run | family, objective | parameters | tokens | FLOPs | seconds | held out |",
    "|---|---|---|---|---|---|---|",
  ]
  for r in ordered(results):
    lines.append(
      f"| {r.name} | {r.kind} | {r.parameters / 1e6:.2f}M | {r.tokens / 1e6:.2f}M | "
      f"{r.flops:.2g} | {r.seconds:.0f} | {r.score:.3f} {r.unit} |"
    )
  return "\n".join(lines)


def ordered(results) -> list:
  return sorted(results, key=lambda r: (metrics.UNITS.index(_key(r)), r.score))


def _key(result) -> str:
  return result.unit.replace(" ", "_")


def draw(results, png_path):
  """Writes a PNG: bits per byte against what the runs have spent.

  Mistake when no run has bits per byte.
  """
  # Not pyplot: it keeps every figure alive and looks for a window system.
  from matplotlib import colormaps
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

  shown = [r for r in ordered(results) if r.unit == "bits per byte"]
  if not shown:
    raise Mistake("none of these runs has bits per byte; there is nothing to draw")
  figure = Figure(figsize=(4.6 * len(SPENT), 4.4), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(1, len(SPENT))
  for axis, (label, field) in zip(axes, SPENT.items(), strict=True):
    for i, result in enumerate(shown):
      _mark(axis, result, field, colormaps["tab10"](i % 10))
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(label)
    axis.grid(color="#dddddd", lw=0.5, which="both")
    axis.spines[["top", "right"]].set_visible(False)
  figure.axes[0].set_ylabel("held-out bits per byte")
  figure.axes[-1].legend(frameon=False, fontsize=9)
  figure.savefig(png_path, dpi=130)


def _mark(axis, result, field, colour):
  """A run's end as a dot, and the way there as a line."""
  if field in ("flops", "seconds"):
    column = ("flops", "seconds").index(field)
    curve = [(point[column], point[2]) for point in result.points]
    axis.plot(*zip(*curve, strict=True), "-", lw=1, alpha=0.5, color=colour)
  label = f"{result.name} {result.score:.2f}"
  axis.plot(getattr(result, field), result.score, "o", color=colour, label=label)
