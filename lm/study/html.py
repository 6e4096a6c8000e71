"""Pages of HTML: elements whose text is escaped, in a document without other files.

    page = document("A title", tag("p", "2 < 3, and ", tag("b", "bold")))

A string is text and is escaped; only what `tag` returned is markup.
"""

import base64
import html
import io

VOID = ("img", "rect", "line", "path", "circle")  # elements without an end tag, closed
STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #f3f5f8; --note: #5b6472; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a414d; --soft: #1d2129; --note: #a3acba; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.2em;
  max-width: 62em; }
h1 { font-size: 1.5em; margin: 0; }
h2 { font-size: 1.15em; margin: 2em 0 0.4em; }
p { margin: 0.4em 0; }
.note { color: var(--note); font-size: 0.9em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.93em; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3em 0.7em; text-align: left;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
.paper { background: white; border-radius: 4px; }
pre, code { background: var(--soft); border-radius: 4px; font-size: 0.9em; }
pre { padding: 0.6em; overflow-x: auto; }
.text { background: var(--soft); border-radius: 4px; padding: 0.6em; margin: 0.4em 0;
  overflow-wrap: anywhere; white-space: pre-wrap; }
.maps { display: grid; gap: 4px; }
.maps figure { margin: 0; font-size: 0.7em; color: var(--note); text-align: center; }
.maps img { width: 100%; image-rendering: pixelated; display: block; }
svg { max-width: 100%; height: auto; }
svg text { fill: currentColor; font: 11px system-ui, sans-serif; }
"""


class Html(str):
  """Markup. Any other string is text."""

  __slots__ = ()


def tag(name: str, *content, **attributes) -> Html:
  """Returns an element; `class_` is its class, `stroke_width` its stroke-width."""
  given = "".join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
  )
  if name in VOID:
    return Html(f"<{name}{given}/>")
  return Html(f"<{name}{given}>{joined(content)}</{name}>")


def joined(content) -> Html:
  """Returns pieces of content as one; those that are not markup are escaped."""
  return Html(
    "".join(x if isinstance(x, Html) else html.escape(str(x)) for x in content)
  )


def table(headings, rows) -> Html:
  """Returns a table, which scrolls on a narrow screen.

  A cell is text, markup or a number, which stands on the right.
  """
  head = tag("tr", *(tag("th", heading) for heading in headings))
  body = [tag("tr", *map(_cell, row)) for row in rows]
  return tag("div", tag("table", head, *body), class_="wide")


def _cell(value) -> Html:
  if isinstance(value, float | int):
    shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return tag("td", shown, class_="number")
  return tag("td", value)


def section(title: str, *content) -> Html:
  """Returns a part of a page with its heading."""
  return tag("section", tag("h2", title), *content)


def note(*content) -> Html:
  """Returns a line of explanation."""
  return tag("p", *content, class_="note")


def picture(png: bytes, alt: str, **attributes) -> Html:
  """Returns a PNG inside the page."""
  data = base64.b64encode(png).decode()
  return tag("img", alt=alt, src=f"data:image/png;base64,{data}", **attributes)


def image_of(values, *, most: float) -> bytes:
  """Returns a PNG of a matrix, one pixel a number, from 0 to `most`."""
  from matplotlib import image

  file = io.BytesIO()
  image.imsave(file, values, cmap="viridis", vmin=0.0, vmax=most, format="png")
  return file.getvalue()


def coloured(pieces, weights, titles) -> Html:
  """Returns pieces of text on colours: blue for weights up to 1, red for down to -1."""
  spans = []
  for piece, weight, title in zip(pieces, weights, titles, strict=True):
    colour = "66, 133, 244" if weight > 0 else "234, 67, 53"
    style = f"background: rgba({colour}, {min(1.0, abs(weight)) * 0.75:.3f})"
    spans.append(tag("span", piece, style=style, title=title))
  return tag("div", *spans, class_="text")


def document(title: str, *content) -> str:
  """Returns a whole page; it loads nothing and runs nothing."""
  head = (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    '<meta http-equiv="Content-Security-Policy" content="'
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"{tag('title', title)}\n<style>{STYLE}</style>\n"
  )
  return f"{head}{joined(content)}\n</html>\n"
