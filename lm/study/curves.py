"""The curves of a run as a picture, drawn from its metrics.jsonl alone."""

import math
from pathlib import Path

import numpy as np

from lm import log
from lm.errors import Mistake

# A panel is one unit; the metrics in it, most important last, on top.
PANELS = {
  "nats per token": ("train/nats_per_token", "eval/nats_per_token"),
  "nats per pair": ("train/nats_per_pair", "eval/nats_per_pair"),
  "error per pair": ("train/error_per_pair", "eval/error_per_pair"),
  "bits per byte": ("train/bits_per_byte", "eval/bits_per_byte"),
  "learning rate": ("train/lr",),
  "tokens per second": ("train/tokens_per_s",),
}
LOOKS = {"train": ("training", "#2b6cb0"), "eval": ("held out", "#c53030")}


def draw(metrics_path, png_path):
  """Writes a PNG with the curves over the steps; panels without numbers are left out.

  Mistake when there is nothing to draw yet.
  """
  # Not pyplot: it keeps every figure alive and looks for a window system.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  rows = log.read(metrics_path)
  panels = {unit: _curves(rows, names) for unit, names in PANELS.items()}
  panels = {unit: curves for unit, curves in panels.items() if curves}
  if not panels:
    raise Mistake(f"{metrics_path} holds no numbers to draw; train for a few steps")
  wide = min(2, len(panels))
  high = math.ceil(len(panels) / wide)
  figure = Figure(figsize=(5.5 * wide, 3.2 * high + 0.4), layout="constrained")
  FigureCanvasAgg(figure)
  axes = list(figure.subplots(high, wide, squeeze=False, sharex=True).flat)
  for axis, (unit, curves) in zip(axes, panels.items(), strict=False):
    _panel(axis, unit, curves)
  for axis in axes[len(panels) :]:
    axis.set_axis_off()
  name = Path(metrics_path).resolve().parent.name
  figure.suptitle(
    f"{name}, {rows[-1]['step']:,} steps", x=0.01, ha="left", weight="bold"
  )
  figure.savefig(png_path, dpi=130)


def _curves(rows, names) -> dict:
  """The finite points (steps, values) of those metrics that have any, by name."""
  curves = {}
  for name in names:
    points = [
      (r["step"], r[name]) for r in rows if math.isfinite(r.get(name, math.nan))
    ]
    if points:
      curves[name] = np.array(points).T
  return curves


def _panel(axis, unit, curves):
  for name, (steps, values) in curves.items():
    label, colour = LOOKS[name.partition("/")[0]]
    if name.startswith("eval/"):
      label = f"{label}, {values[-1]:.4g} in the end"
      axis.plot(steps, values, "o-", ms=3.5, lw=1.2, color=colour, label=label)
    elif name == "train/lr":  # has no noise to smooth away
      axis.plot(steps, values, lw=1.4, color=colour, label=label)
    else:
      dot = "." if len(values) < 30 else ""
      axis.plot(steps, values, lw=0.6, alpha=0.3, color=colour, marker=dot)
      axis.plot(steps, _smooth(values), lw=1.4, color=colour, label=label)
  axis.set_title(unit, loc="left", fontsize=10)
  axis.set_xlabel("step", fontsize=9)
  axis.set_ylim(*_limits(curves.values(), from_zero=unit == "tokens per second"))
  axis.yaxis.set_major_formatter("{x:,g}")
  axis.xaxis.set_major_formatter("{x:,g}")
  axis.tick_params(labelsize=8, labelbottom=True)
  axis.grid(color="#dddddd", lw=0.5)
  axis.spines[["top", "right"]].set_visible(False)
  if any(name.startswith("eval/") for name in curves):
    axis.legend(frameon=False, fontsize=9, loc="upper right")


def _smooth(values):
  """The mean over 2 % of the curve around every point."""
  reach = len(values) // 100
  sums = np.concatenate([[0.0], np.cumsum(values)])
  at = np.arange(len(values))
  low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)


def _limits(curves, *, from_zero):
  """Where the axis ends: the steep fall of the first 4 % of the steps may leave it."""
  last = max(steps[-1] for steps, _ in curves)
  late = np.concatenate([v[s >= 0.04 * last] for s, v in curves])
  low, high = (0.0 if from_zero else late.min()), late.max()
  room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
  return low - (0 if from_zero else room), high + room
