"""The curves of a run as a picture, drawn from its metrics.jsonl alone.

Every metric "eval/NAME" gets a panel, with "train/NAME" in it where there is one, so a
new metric of an objective is drawn without an edit here. Two more panels show the
learning rate and the tokens per second.
"""

import math
from pathlib import Path

import numpy as np

from lm import log
from lm.errors import Mistake
from lm.study.figures import figure, literal, save, tidy

SCHEDULE, SPEED = "train/lr", "train/tokens_per_s"
TITLES = {SCHEDULE: "learning rate", SPEED: "tokens per second"}
LABELS = {"train": "training", "eval": "held out"}
COLOURS = {"train": "#2b6cb0", "eval": "#c53030"}


def draw(metrics_path, png_path):
  """Writes a PNG of the metrics over the steps.

  Raises Mistake if the file has no finite number to draw yet.
  """
  rows = log.read(metrics_path)
  drawn = panels(rows)
  if not drawn:
    raise Mistake(f"{metrics_path} holds no numbers to draw; train for a few steps")
  columns = min(2, len(drawn))
  lines = math.ceil(len(drawn) / columns)
  picture = figure(5.5 * columns, 3.2 * lines + 0.4)
  axes = list(picture.subplots(lines, columns, squeeze=False, sharex=True).flat)
  for axis, (title, curves) in zip(axes, drawn.items(), strict=False):
    _draw_panel(axis, title, curves)
  for axis in axes[len(drawn) :]:
    axis.set_axis_off()
  name = Path(metrics_path).resolve().parent.name
  picture.suptitle(
    f"{literal(name)}, {rows[-1]['step']:,} steps", x=0.01, ha="left", weight="bold"
  )
  save(picture, png_path)


def panels(rows) -> dict:
  """Returns {title: {metric: (steps, values)}}, one entry a panel, of finite values.

  Before the first evaluation the training loss has a panel. A loss whose values are
  those of another metric (the nats per token of a language model) has none.
  """
  curves = _curves(rows)
  names = [key.removeprefix("eval/") for key in curves if key.startswith("eval/")]
  names = [name for name in names if not _repeats(name, names, curves)]
  groups = {
    name.replace("_", " "): (f"train/{name}", f"eval/{name}")
    for name in names or ["loss"]
  }
  groups |= {title: (key,) for key, title in TITLES.items()}
  shown = {
    title: {key: curves[key] for key in keys if key in curves}
    for title, keys in groups.items()
  }
  return {title: panel for title, panel in shown.items() if panel}


def _curves(rows) -> dict:
  """{metric: array of its steps and its values}, without values that are not finite."""
  points = {}
  for row in rows:
    for key, value in row.items():
      if "/" in key and math.isfinite(value):
        points.setdefault(key, []).append((row["step"], value))
  return {key: np.array(pairs).T for key, pairs in points.items()}


def _repeats(name, names, curves) -> bool:
  """True if `name` is the loss and another metric has the same values."""
  others = [curves[f"eval/{other}"] for other in names if other != name]
  return name == "loss" and any(np.array_equal(curves["eval/loss"], x) for x in others)


def _draw_panel(axis, title, curves):
  for name, (steps, values) in curves.items():
    group = name.partition("/")[0]
    label, colour = LABELS[group], COLOURS[group]
    if group == "eval":
      label = f"{label}, {values[-1]:.4g} in the end"
      axis.plot(steps, values, "o-", ms=3.5, lw=1.2, color=colour, label=label)
    elif name == SCHEDULE:  # has no noise to smooth away
      axis.plot(steps, values, lw=1.4, color=colour, label=label)
    else:
      dot = "." if len(values) < 30 else ""
      axis.plot(steps, values, lw=0.6, alpha=0.3, color=colour, marker=dot)
      axis.plot(steps, _smooth(values), lw=1.4, color=colour, label=label)
  axis.set_title(title, loc="left", fontsize=10)
  axis.set_xlabel("step", fontsize=9)
  axis.set_ylim(*_limits(curves.values(), from_zero=SPEED in curves))
  axis.yaxis.set_major_formatter("{x:,g}")
  axis.xaxis.set_major_formatter("{x:,g}")
  axis.tick_params(labelsize=8, labelbottom=True)
  tidy(axis)
  heldout = [values for name, (_, values) in curves.items() if name.startswith("eval/")]
  if heldout:
    rises = heldout[0][-1] > heldout[0][0]
    corner = "lower right" if rises else "upper right"
    axis.legend(frameon=False, fontsize=9, loc=corner)


def _smooth(values):
  """The mean over 2 % of the curve around every point."""
  reach = len(values) // 100
  sums = np.concatenate([[0.0], np.cumsum(values)])
  index = np.arange(len(values))
  first = np.maximum(index - reach, 0)
  end = np.minimum(index + reach + 1, len(values))
  return (sums[end] - sums[first]) / (end - first)


def _limits(curves, *, from_zero):
  """(lowest, highest) value of the axis.

  The first 4 % of the steps do not count: a loss that starts high would flatten the
  rest of its curve.
  """
  last = max(steps[-1] for steps, _ in curves)
  late = np.concatenate([values[steps >= 0.04 * last] for steps, values in curves])
  low, high = (0.0 if from_zero else late.min()), late.max()
  margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
  return low - (0 if from_zero else margin), high + margin
