"""Filters for text of the web: a text for each reason, and what stays."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.data import clean
from lm.data.clean import _repetition, documents, quality
from lm.data.clean._parts import Parts

PROSE = """\
The harbour was quiet that morning, and the boats lay still beside the old wall.
Nobody had come down from the village since the storm of the week before. A boy
sat on a barrel with his feet in the water and counted the gulls. His sister used to
say that gulls know when fish will arrive, but she had never told him how. Towards
noon the first sail appeared beyond the lighthouse. It grew slowly, as if the wind
were too lazy to push. By evening all families stood along the pier to see who
would be aboard, and what they had brought.
"""
CHINESE = """\
清晨的港口十分安静，几条小船靠在旧墙旁边。自从上星期那场暴风雨以后，村里没有人下来过。
一个男孩坐在木桶上，把脚伸进水里，数着天上的海鸥。他的姐姐常说海鸥知道鱼群什么时候到来。
将近中午，第一张白帆出现在灯塔外面。它走得很慢，好像风懒得推动它似的。
到了傍晚，所有人家都站在码头上，想看看谁在船上，又带回来了什么东西。
"""
THAI = "ท่าเรือเงียบสงบในเช้าวันนั้น และเรือจอดนิ่งอยู่ข้างกำแพงเก่า เด็กชายคนหนึ่งนั่งบนถังไม้\n"
THAI += "เมื่อใกล้เที่ยง ใบเรือใบแรกปรากฏขึ้นหลังประภาคาร มันเคลื่อนเข้ามาช้ามาก เหมือนลมขี้เกียจพัด\n"
THAI += "พี่สาวของเขาชอบพูดว่า นกนางนวลรู้ว่าปลาจะมาเมื่อไร แต่เธอไม่เคยบอกเขาว่ารู้ได้อย่างไร\n"
NAMES = ("gopher", "repetition", "c4", "fineweb")
SYLLABLES = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrst"]
DIFFERENT = [f"{a}{b}" for a in SYLLABLES for b in SYLLABLES]  # words of six letters
# {n: words} so that n words, twice among so many others, are over the limit of n alone.
AMONG = {5: 20, 6: 33, 7: 41, 8: 50, 9: 62, 10: 78}


def record(text, name="a"):
  return {"id": name, "text": text}


def between(phrase: str, num: int) -> str:
  """Returns a phrase, again and again, each time behind `num` new words."""
  words = iter(DIFFERENT)
  return " ".join(
    " ".join([*(next(words) for _ in range(num)), phrase]) for _ in range(20)
  )


def repeats(n: int, num: int) -> str:
  """Returns phrases of n words, each there twice among `num` words."""
  words, parts = iter(DIFFERENT), []
  for _ in range(6):
    phrase = [next(words) for _ in range(n)]
    for _ in range(2):
      parts += phrase + [next(words) for _ in range(num // 2 - n)]
  return " ".join(parts)


@pytest.mark.parametrize(
  ("name", "text", "reason"),
  [
    ("gopher", "the end of it", "under 50 words"),
    ("gopher", "the end of it " * 25_001, "over 100,000 words"),
    ("gopher", "a the of is " * 20, "words of under 3 characters"),
    ("gopher", "the of" + " unbelievable" * 50, "words of over 10 characters"),
    ("gopher", PROSE + "# " * 20, "over 0.1 hashes a word"),
    ("gopher", PROSE + "word ... " * 20, "over 0.1 ellipses a word"),
    ("gopher", "- " + PROSE.replace("\n", "\n- "), "over 90% of lines are bullets"),
    ("gopher", PROSE.replace("\n", "...\n"), "over 30% of lines end in an ellipsis"),
    ("gopher", PROSE + "100 " * 20, "under 80% of words have a letter"),
    ("gopher", "Katten sover under bordet hele dagen " * 12, "under 2 stop words"),
    ("repetition", "\n\n".join("aabbccdd"), "over 30% of paragraphs are repeats"),
    (
      "repetition",
      f"{PROSE}\n\nOne.\n\nTwo.\n\nThree.\n\n{PROSE[:300]}\n\n{PROSE[:300]}",
      "over 20% of characters in repeated paragraphs",
    ),
    ("repetition", "\n".join("aabbccdd"), "over 30% of lines are repeats"),
    (
      "repetition",
      "\n".join([*PROSE.splitlines(), *"abcdefgh", *PROSE.splitlines()[:3]]),
      "over 20% of characters in repeated lines",
    ),
    ("repetition", between("well done", 1), "over 20% of characters in one 2-gram"),
    ("repetition", between("well done sir", 5), "over 18% of characters in one 3-gram"),
    (
      "repetition",
      between("well done dear sir", 10),
      "over 16% of characters in one 4-gram",
    ),
    *(
      (
        "repetition",
        repeats(n, num),
        f"over {share}% of characters in repeated {n}-grams",
      )
      for (n, num), share in zip(AMONG.items(), (15, 14, 13, 12, 11, 10), strict=True)
    ),
    ("repetition", between("", 10), ""),
    ("c4", f"{PROSE}Lorem Ipsum is not Latin.", "lorem ipsum"),
    ("c4", f"{PROSE}So says f(x) = {{x}}.", "a brace"),
    (
      "c4",
      "One two three. Four five six. Seven, e.g. eight!\nNine?",
      "under 5 sentences",
    ),
    ("fineweb", PROSE.replace(".", ""), "under 12% of lines end a sentence"),
    ("fineweb", "A short line.\nAnother one.\n" * 3, "over 67% of lines are short"),
    (
      "fineweb",
      f"{PROSE}The same sentence is here twice.\nThe same sentence is here twice.\n",
      "over 1% of characters in repeated lines",
    ),
    ("fineweb", PROSE + "\n" * 60, "over 0.3 line breaks a word"),
  ],
)
def test_each_reason_has_its_text(name, text, reason):
  assert quality.reason(text, [name]) == (f"{name}: {reason}" if reason else "")


@pytest.mark.parametrize("text", [PROSE, CHINESE, PROSE.replace(".", "\u2026\u201d")])
def test_plain_text_of_any_script_stays(text):
  for name in NAMES[: 2 if "\u2026" in text else 4]:
    assert quality.reason(text, [name]) == ""


def test_scripts_without_spaces_stay():
  assert quality.reason(THAI, NAMES) == ""
  assert quality.rewritten(THAI, NAMES) == THAI.strip()
  # Pairs of characters come back in any long Chinese text; phrases do not.
  assert quality.reason("".join(CHINESE.split()) * 3, NAMES) == (
    "repetition: over 15% of characters in repeated 10-grams"
  )


def test_every_filter_has_its_name():
  assert tuple(quality.FILTERS) == clean.QUALITY


def test_words_and_symbols():
  text = "It's 1,000 km, e-mail me@a.org -1 a--b --c /proc/1 ... (\u4f60\u597d)!"
  expected = "It 's 1,000 km , e - mail me@a.org -1 a-- b -- c /proc/1 ... ("
  assert Parts(text).words == [*expected.split(), "\u4f60", "\u597d", ")", "!"]
  # Marks belong to the letters before them; Thai is cut after five letters.
  hindi = "\u0939\u093f\u0928\u094d\u0926\u0940"
  assert Parts(f"{hindi} caf\u0065\u0301s").words == [hindi, "cafe\u0301s"]
  assert list(map(len, Parts("\u0e01" * 12).words)) == [5, 5, 2]
  assert Parts("see https://a.org/b?c=d#e.").words == [
    "see",
    "https://a.org/b?c=d#e",
    ".",
  ]


def by_hand(text: str) -> str:
  """Returns the reason that n-grams give, one n-gram after the other."""
  words = text.split()
  for n, share in _repetition.COMMONEST.items():
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    if grams:
      gram, times = grams.most_common(1)[0]
      if len(gram) * times > share * len(text):
        return f"over {share:.0%} of characters in one {n}-gram"
  for n, share in _repetition.BEFORE.items():
    seen, chars, place = set(), 0, 0
    while place + n <= len(words):
      gram = tuple(words[place : place + n])
      chars += sum(map(len, gram)) if gram in seen else 0
      place += n if gram in seen else 1
      seen.add(gram)
    if chars > share * len(text):
      return f"over {share:.0%} of characters in repeated {n}-grams"
  return ""


@settings(max_examples=300)
@given(
  st.lists(st.integers(0, 400) | st.integers(0, 8), max_size=300),
  st.lists(st.tuples(st.integers(0, 300), st.integers(0, 12)), max_size=12),
)
def test_ngrams_are_counted_as_by_hand(numbers, copies):
  words = [DIFFERENT[number][: 2 + number % 5] for number in numbers]
  for start, length in copies:
    words += words[start : start + length]
  text = " ".join(words)
  assert _repetition._of_ngrams(Parts(text)) == by_hand(text)


@pytest.mark.parametrize(
  ("before", "after"),
  [
    ("  A line that ends. \n\nNo full stop here\nTwo words.", "A line that ends."),
    (
      "I said: \u201cI will.\u201d\nOn and on...\nTo be or\u2026",
      "I said: \u201cI will.\u201d",
    ),
    ("It is known.[12] [edit]\nSo is [[1]2]this one!", "It is known.\nSo is this one!"),
    ("Please enable JavaScript in it.\nThis page uses cookies.\nRead it.", ""),
    ("The privacy policy is {a}.\nOf javascript: lorem ipsum.", None),
    (
      "a" * 1001 + " is too long.\n\u4f60\u597d\u5417\uff1f\n\u597d\u3002",
      "\u4f60\u597d\u5417\uff1f",
    ),
  ],
)
def test_lines_that_c4_leaves_out(before, after):
  """Lines for which the whole text goes, None, stay."""
  for name in ("c4", "c4-lines"):
    assert quality.rewritten(before, [name]) == (before if after is None else after)
  assert quality.rewritten(before, ["gopher", "fineweb"]) == before


HARD = st.lists(
  st.sampled_from(
    (
      *("a@b.cd", "@", ".", "1.2.3.4", "8.8.8.8", "-", "x", " ", "\n", "\t", "_"),
      *("[1]", "[", "]", "[edit]", "1", "word ", "three short words.", "\u3002", "'"),
      *("lorem ipsum ", "javascript ", "{", "\u4f60\u597d", "...", "\u2026", "the "),
      *("Page 12", "\r\n", "\u0301", "use cookies ", "\ufb01", "\x85", "\u2028", "?"),
    )
  ),
  max_size=40,
).map("".join)


@settings(max_examples=300)
@given(st.lists(HARD | st.text(), max_size=4), st.sampled_from(["", "english"]))
def test_cleaning_twice_changes_nothing_more(texts, stopwords):
  records = [record(text, str(index)) for index, text in enumerate(texts)]
  for filters in ("c4-lines", "c4,fineweb"):
    rules = dict(quality=filters, pii=True, stopwords=stopwords, unicode="NFKC")
    kept, _ = documents.clean(records, **rules)
    again, report = documents.clean(kept, **rules)
    assert again == kept and not report.changed and not report.dropped


def test_the_report_counts_each_reason():
  rules = dict(quality="gopher,repetition,c4,fineweb", pii=True, dedup="off")
  texts = [
    PROSE,
    f"{PROSE}Lorem ipsum is here.",
    "Too short a text.",
    f"{PROSE}\nBy a@b.cd",
  ]
  records = [record(text, str(index)) for index, text in enumerate(texts)]
  _, report = documents.clean(records, **rules)
  assert report.kept == 0 and report.changed == {"c4 lines": 3, "pii": 1}
  _, report = documents.clean(records, **rules | dict(quality=" gopher, repetition,"))
  assert report.dropped == {"gopher: under 50 words": 1}
  assert "changed 1: pii (3)" in report.lines()
