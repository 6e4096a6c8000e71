"""Pages: text is escaped wherever it comes from, and nothing is loaded or run."""

import io

import numpy as np
from matplotlib import image
from pages import Reader

from lm.study import html as page

EVIL = """<script>alert(1)</script>&"'</td>"""


def test_text_is_escaped_in_every_place():
  parts = [
    page.tag("p", EVIL, page.tag("b", EVIL), title=EVIL),
    page.table([EVIL], [[EVIL], [page.tag("i", EVIL)]]),
    page.section(EVIL, page.note(EVIL)),
    page.coloured([EVIL], [0.5], [EVIL]),
    page.picture(b"png", EVIL),
  ]
  text = page.document(EVIL, *parts, EVIL)
  reader = Reader(text)
  assert "script" not in reader.names and "<script" not in text
  assert "".join(reader.texts).count(EVIL) == 10
  assert all(link.startswith("data:image/png;base64,") for link in reader.links)
  assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text


def test_cells_of_a_table():
  reader = Reader(
    page.table(["a", "b"], [(12345, "x"), (0.123456, page.tag("b", "y"))])
  )
  assert reader.texts == ["a", "b", "12,345", "x", "0.1235", "y"]
  assert reader.names.count("td") == 4 and reader.names.count("th") == 2


def test_colours_grow_with_weights():
  text = page.coloured(["up", "down", "none"], [1.0, -0.5, 0.0], ["", "", ""])
  assert "rgba(66, 133, 244, 0.750)" in text
  assert "rgba(234, 67, 53, 0.375)" in text and "0.000)" in text


def test_a_matrix_is_a_picture_of_its_size():
  png = page.image_of(np.array([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]), most=1.0)
  pixels = image.imread(io.BytesIO(png))
  assert pixels.shape[:2] == (2, 3)
  assert (pixels[0, 2] == pixels[1, 0]).all() and (pixels[0, 0] == pixels[1, 1]).all()
  assert (pixels[0, 0] != pixels[0, 2]).any()
