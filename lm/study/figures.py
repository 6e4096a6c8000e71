"""Shared parts of the pictures: an empty figure and a plain axis."""

import warnings


def figure(width: float, height: float):
  """An empty matplotlib Figure of that size in inches, which `savefig` can write.

  Made without pyplot, which keeps every figure alive and looks for a window system.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  empty = Figure(figsize=(width, height), layout="constrained")
  FigureCanvasAgg(empty)
  return empty


def literal(name: str) -> str:
  """Returns the name of a run as matplotlib draws it: a $ begins no formula."""
  return name.encode(errors="replace").decode().replace("$", r"\$")


def save(picture, png_path):
  """Writes a figure as a PNG; a character that no font has is a box, and no warning."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing")
    picture.savefig(png_path, dpi=130)


def tidy(axis, *, minor: bool = False):
  """Gives an axis a light grid and removes the frame; `minor` draws minor lines too."""
  axis.grid(color="#dddddd", lw=0.5, which="both" if minor else "major")
  axis.spines[["top", "right"]].set_visible(False)
