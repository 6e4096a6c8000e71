"""Pages of HTML, read back: their elements, texts and links."""

import html.parser

from lm.study import html as page


class Reader(html.parser.HTMLParser):
  """The elements, texts and links of a page; fails unless every element ends."""

  def __init__(self, text):
    super().__init__()
    self.open, self.names, self.texts, self.links = [], [], [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, name, attributes):
    self.names.append(name)
    self.links += [value for key, value in attributes if key in ("src", "href")]
    assert not [key for key, _ in attributes if key.startswith("on")]
    if name not in ("meta", *page.VOID):
      self.open.append(name)

  def handle_startendtag(self, name, attributes):
    self.handle_starttag(name, attributes)

  def handle_endtag(self, name):
    assert self.open.pop() == name

  def handle_data(self, data):
    self.texts.append(data)
