"""Several runs side by side: a table, and a picture of score against what was spent."""

from lm.errors import Mistake
from lm.stores.differing import differing
from lm.study import html
from lm.study.figures import figure, literal, save, tidy

# Label of an axis -> field of Result.
SPENT = {
  "training FLOPs": "flops",
  "training seconds": "seconds",
  "parameters": "parameters",
}


HEADINGS = "run", "family, objective", "parameters", "tokens", "FLOPs", "seconds"
HEADINGS += "held out", "differs in"
# Values that no score depends on, or that have a column of their own.
NOT_SHOWN = ("checkpoint", "log", "data.cache", "eval.every", "eval.sample_tokens")
NOT_SHOWN += ("model.family", "objective")


def table(results) -> str:
  """Returns the results as Markdown, in the order of `ordered`."""
  lines = [HEADINGS, ["---"] * len(HEADINGS)]
  for row in rows(results):
    lines.append([cell.replace("|", "\\|") for cell in row])
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows(results) -> list[list[str]]:
  """Returns the cells of the table, HEADINGS for each result."""
  shown = ordered(results)
  return [
    [
      r.name,
      f"{r.family}, {r.objective}",
      f"{r.parameters / 1e6:.2f}M",
      f"{r.tokens / 1e6:.2f}M",
      f"{r.flops:.2g}",
      f"{r.seconds:.0f}",
      f"{r.score:.3f} {r.unit}",
      ", ".join(f"{name}={value}" for name, value in changes.items()),
    ]
    for r, changes in zip(shown, differences([r.config for r in shown]), strict=True)
  ]


def differences(configs) -> list[dict]:
  """Returns for each config the values, {"optim.lr": 0.1}, that not all of them share.

  Values that some of them do not have, as models of other families, are left out.
  """
  first = configs[0] if configs else {}
  changes = [
    {key: (old, new) for key, old, new in differing(first, other, NOT_SHOWN)}
    for other in configs
  ]
  common = {key: pair[0] for pairs in changes for key, pair in pairs.items()}
  values = [{key: p.get(key, (0, common[key]))[1] for key in common} for p in changes]
  missing = {key for config in values for key in config if config[key] is None}
  missing |= {key for key, value in common.items() if value is None}
  return [{k: c[k] for k in sorted(c) if k not in missing} for c in values]


def page(results, png: bytes) -> str:
  """Returns the table and the picture as one page of HTML that needs no other file."""
  image = html.picture(png, "held-out scores of the runs", class_="paper")
  return html.document("Runs", html.table(HEADINGS, rows(results)), image)


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
  axes[0].set_ylabel(f"held-out {best.metric.replace('_', ' ')}")
  axes[-1].legend(frameon=False, fontsize=9)
  save(picture, png_path)


def _draw_run(axis, result, field, colour):
  """Draws a run's evaluations as a line, and the last of them as a dot on it.

  The dot of pseudo bits per byte is hollow.
  """
  x = result.parameters
  if field in ("flops", "seconds"):
    column = ("flops", "seconds").index(field)
    curve = [(point[column], point[2]) for point in result.points]
    axis.plot(*zip(*curve, strict=True), "-", lw=1, alpha=0.5, color=colour)
    x = curve[-1][0]
  pseudo = " (pseudo)" if result.is_pseudo else ""
  label = f"{literal(result.name)} {result.score:.2f}{pseudo}"
  fill = "white" if result.is_pseudo else colour
  axis.plot(x, result.score, "o", color=colour, markerfacecolor=fill, label=label)
