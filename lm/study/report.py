"""Several runs side by side: a table, and a picture of score against what was spent."""

from lm.errors import Mistake
from lm.study.figures import figure, literal, save, tidy

# Label of an axis -> field of Result.
SPENT = {
  "training FLOPs": "flops",
  "training seconds": "seconds",
  "parameters": "parameters",
}


def table(results) -> str:
  """Returns the results as Markdown, in the order of `ordered`."""
  lines = [
    "| run | family, objective | parameters | tokens | FLOPs | seconds | held out |",
    "|---|---|---|---|---|---|---|",
  ]
  for r in ordered(results):
    lines.append(
      f"| {r.name} | {r.family}, {r.objective} | {r.parameters / 1e6:.2f}M | "
      f"{r.tokens / 1e6:.2f}M | {r.flops:.2g} | {r.seconds:.0f} | "
      f"{r.score:.3f} {r.unit} |"
    )
  return "\n".join(lines)


def ordered(results) -> list:
  """Returns the results in groups that can be compared, the best of each first.

  The first group is that of bits per byte.
  """

  def rank(result):
    return result.comparable_with, -result.score * (
      1 if result.larger_is_better else -1
    )

  return sorted(results, key=rank)


def draw(results, png_path):
  """Writes a PNG: the score against training FLOPs, seconds and parameters.

  It holds the first group of `ordered`, for no other scores can be compared with them.
  Raises Mistake if there are no results.
  """
  if not results:
    raise Mistake("no runs to compare; give the folder of one or more")
  from matplotlib import colormaps
  from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

  best = ordered(results)[0]
  shown = [r for r in ordered(results) if r.comparable_with == best.comparable_with]
  picture = figure(4.6 * len(SPENT), 4.4)
  axes = picture.subplots(1, len(SPENT), sharey=True)
  for axis, (label, field) in zip(axes, SPENT.items(), strict=True):
    for i, result in enumerate(shown):
      _draw_run(axis, result, field, colormaps["tab10"](i % 10))
    if any(getattr(result, field) > 0 for result in shown):  # GloVe has no FLOPs
      axis.set_xscale("log")
      axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
      axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlabel(label)
    tidy(axis, minor=True)
  axes[0].set_ylabel(f"held-out {best.unit}")
  axes[-1].legend(frameon=False, fontsize=9)
  save(picture, png_path)


def _draw_run(axis, result, field, colour):
  """Draws the end of a run as a dot, and its evaluations on the way as a line."""
  if field in ("flops", "seconds"):
    column = ("flops", "seconds").index(field)
    curve = [(point[column], point[2]) for point in result.points]
    axis.plot(*zip(*curve, strict=True), "-", lw=1, alpha=0.5, color=colour)
  label = f"{literal(result.name)} {result.score:.2f}"
  axis.plot(getattr(result, field), result.score, "o", color=colour, label=label)
