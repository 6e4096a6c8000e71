"""Terms of identity in pairs, to exchange in a text; English and Chinese.

Left out on purpose: words that mean something else as often ("black", "straight",
"old"), so that the class of a text has no reason to change with these.
"""

import re

GENDER = """he she, him her, himself herself, man woman, men women, boy girl,
boys girls, father mother, fathers mothers, dad mom, son daughter, sons daughters,
brother sister, brothers sisters, husband wife, husbands wives, uncle aunt,
grandfather grandmother, grandson granddaughter, nephew niece, boyfriend girlfriend,
gentleman lady, gentlemen ladies, male female, males females, mr ms, sir madam,
actor actress, actors actresses, waiter waitress, hero heroine, 他 她, 他们 她们,
男人 女人, 男孩 女孩, 男生 女生, 男士 女士, 男性 女性, 先生 小姐, 爸爸 妈妈,
父亲 母亲, 儿子 女儿, 哥哥 姐姐, 弟弟 妹妹, 丈夫 妻子, 老公 老婆, 爷爷 奶奶,
叔叔 阿姨"""
RELIGION = """christian muslim, christians muslims, church mosque, churches mosques,
bible quran, priest imam, priests imams, christianity islam"""
ORIGIN = """american mexican, americans mexicans, british nigerian, french moroccan,
german turkish, germans turks, european african, europeans africans"""
# Forms that share a partner: "her" is "his" before a word, and else "him".
MERGED = {"his": "her", "hers": "his", "mrs": "mr", "miss": "mr"}
AXES = {"gender": GENDER, "religion": RELIGION, "origin": ORIGIN}
NOT_ALONE = {"他": "其吉"}  # characters before it with which it is another word


class Axis:
  """The exchange of the terms of one kind."""

  def __init__(self, name: str):
    pairs = [pair.split() for pair in AXES[name].replace("\n", " ").split(",")]
    self.first, self.second = (frozenset(side) for side in zip(*pairs, strict=True))
    self._partner = dict(pairs) | {second: first for first, second in pairs}
    if name == "gender":
      self._partner |= MERGED
      self.first |= {"his"}
      self.second |= {"hers", "mrs", "miss"}
    longest_first = sorted(self._partner, key=len, reverse=True)
    self._pattern = re.compile("|".join(map(_alone, longest_first)), re.IGNORECASE)

  def exchanged(self, text: str) -> str:
    """Returns the text with every term exchanged, in the case that it had."""
    return self._pattern.sub(self._other, text)

  def sides(self, text: str) -> tuple[bool, bool]:
    """Returns whether the text has terms of the first side, and of the second."""
    terms = {match[0].lower() for match in self._pattern.finditer(text)}
    return bool(terms & self.first), bool(terms & self.second)

  def _other(self, match) -> str:
    term = match[0].lower()
    partner = self._partner[term]
    if term == "her" and re.match(r"\s+\w", match.string[match.end() :]):
      partner = "his"
    if match[0].isupper() and len(term) > 1:
      return partner.upper()
    return partner.capitalize() if match[0][0].isupper() else partner


def _alone(term: str) -> str:
  """Returns the pattern of a term that is no part of a longer word."""
  if term.isascii():
    return rf"(?<!\w){term}(?!\w)"
  before = NOT_ALONE.get(term)
  return rf"(?<![{before}]){term}" if before else term
