"""Masks, forms of Chinese, languages, and test items in training text."""

import importlib.metadata
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.data import clean, overlap
from lm.data.clean import documents, han, language, pii
from lm.data.corpus import prepared
from lm.errors import Mistake

ENGLISH = "Nobody had come down from the village since the storm of the week before."
CHINESE = "自从上星期那场暴风雨以后，村里没有人下来过。"
DIFFERENT = [
  f"{a}{b}" for a in "bdfgk" for b in ("an", "el", "ir", "os", "ut", "ax", "em", "in")
]
IP = "192.0.2.1"


def record(text, name="a"):
  return {"id": name, "text": text}


def cleaned(text, **rules):
  """Returns (texts that are kept of one text, Report)."""
  records, report = documents.clean([record(text)], **rules)
  return [kept["text"] for kept in records], report


@pytest.mark.parametrize(
  ("before", "after"),
  [
    ("Write to jo.doe+x@mail.example.org.", "Write to email@example.com."),
    ("<a@b.cd>, 'c@d.ef'", "<email@example.com>, 'email@example.com'"),
    ("pkg@1.2.3 @name a@b me @ home.org x@y.z", None),
    ("at 8.8.8.8, [1.1.1.1]:5 and 9.9.9.9/24.", f"at {IP}, [{IP}]:5 and {IP}/24."),
    ("10.0.0.1 127.0.0.1 192.168.1.9 172.20.1.1 224.0.0.1 192.0.2.77", None),
    ("1.2.3.4.5 v1.2.3.4 1.2.3.400 01.2.3.4 1.2.3.4a", None),
  ],
)
def test_masks_of_addresses(before, after):
  expected = before if after is None else after
  assert pii.masked(before) == pii.masked(expected) == expected
  kept, report = cleaned(before, pii=True)
  assert kept == [expected] and report.changed == ({"pii": 1} if after else {})


def test_held_out_text_is_rewritten_and_not_filtered(tmp_path):
  (tmp_path / "a.jsonl").write_text(json.dumps({"text": ENGLISH}))
  rules = clean.Rules(
    quality="gopher,c4", pii=True, decontaminate=f"{tmp_path}/a.jsonl", language="en"
  )
  of_heldout = documents.heldout_rules(rules)
  assert (of_heldout.decontaminate, of_heldout.language) == ("", "")
  text = "By a@b.cd, who wrote it.\nAnd this line goes"
  document = documents.judge(of_heldout, False, record(text))
  assert document.text == "By email@example.com, who wrote it."
  assert document.changes == ("pii", "c4 lines") and not document.reason
  only_drops = documents.heldout_rules(clean.Rules(quality="gopher,fineweb"))
  assert documents.judge(only_drops, False, record(text)).text == text


ITEMS = [
  {"question": "Which of the two rivers is longer?", "choices": ["Elbe", "Rhine"]},
  {"passage": " ".join(DIFFERENT[:20]), "answers": [" ".join(DIFFERENT[30:39])]},
]


@pytest.fixture
def items(tmp_path):
  path = tmp_path / "items.jsonl"
  path.write_text("".join(f"{json.dumps(item)}\n" for item in ITEMS))
  return path


@pytest.mark.parametrize(
  ("text", "is_contained"),
  [
    (" ".join(["new", *DIFFERENT[3:16], "new"]), True),
    (" ".join(DIFFERENT[3:16]).upper().replace(" ", "\n- "), True),
    (" ".join([*DIFFERENT[3:15], "new", *DIFFERENT[15:20]]), False),
    (" ".join(["new", *DIFFERENT[30:39], "new"]), True),
    (" ".join(["new", *DIFFERENT[30:38], "new"]), False),
    ("Which of the two rivers is longer?", False),
  ],
)
def test_texts_with_test_items_go(text, is_contained, items):
  kept, report = cleaned(text, decontaminate=f"{items}, jsonl:{items}")
  assert bool(kept) != is_contained
  assert report.dropped == ({f"contains {items}": 1} if is_contained else {})


def test_items_are_searched_for_in_the_form_of_the_text(items):
  item = "\u201c" + " ".join(["\ufb01ve", *DIFFERENT[:12]])
  items.write_text(json.dumps({"text": item}))
  for text in (item, item.replace("\ufb01", "fi")):
    assert not cleaned(text, decontaminate=str(items), unicode="NFKC")[0]


def test_a_set_may_be_any_table_of_a_file(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text("label,text\n1," + " ".join(DIFFERENT[:10]) + "\n")
  _, report = cleaned(" ".join(DIFFERENT[:11]), decontaminate=f"csv:{path}")
  assert report.dropped == {f"contains csv:{path}": 1}


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 30))
def test_an_index_finds_what_is_shared(numbers, start):
  text, other = (" ".join(map(str, part)) for part in (numbers, numbers[start:]))
  grams = overlap._grams(other, overlap.LONGEST)
  expected = any(len(gram) >= overlap.LEAST for gram in grams)
  assert overlap.Index({"name": [other]}).find(text) == ("name" if expected else "")


def test_prepared_data_are_named_by_the_items(tmp_path, items):
  (tmp_path / "a.txt").write_text("One.\n\nTwo.\n")

  def name(**rules):
    source = f"text:{tmp_path}/a.txt"
    return prepared.folder_name(source, prepared.facts(source, rules, cache=tmp_path))

  plain, first = name(), name(decontaminate=str(items))
  items.write_text(json.dumps({"text": ENGLISH}))
  assert len({plain, first, name(decontaminate=str(items)), name(pii=True)}) == 4
  # Filters that are off are no part of the name.
  assert "pii" not in clean.settings(clean.Rules()) and name(pii=False) == plain


@pytest.mark.parametrize(
  ("rules", "expected"),
  [
    (dict(quality="gopher,gofer"), "no quality filter 'gofer'; found: gopher, repet"),
    (dict(han="old"), "wanted one of ('', 'simplified', 'traditional')"),
    (dict(language_score=2.0), "language_score=2.0; wanted more than 0, at most 1"),
    (dict(decontaminate="pack:science"), "no set of test items 'pack:science'; wanted"),
    (dict(decontaminate="no.jsonl"), "no file no.jsonl"),
  ],
)
def test_wrong_rules_are_refused(rules, expected):
  with pytest.raises(Mistake) as error:
    documents.clean([], **rules)
  assert expected in str(error.value) and "\n" not in str(error.value)


def test_a_set_of_short_texts_is_refused(items):
  items.write_text('{"text": "one two"}')
  with pytest.raises(Mistake, match=r"no text of .*items.jsonl has 8 words"):
    documents.clean([], decontaminate=str(items))


@pytest.mark.parametrize(
  ("rules", "package"),
  [(dict(han="simplified"), "opencc"), (dict(language="en"), "py3langid")],
)
def test_a_missing_package_is_named_with_its_command(monkeypatch, rules, package):
  def missing(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "version", missing)
  with pytest.raises(
    Mistake, match=f"{package} is not installed; .* install {package}"
  ):
    documents.clean([], **rules)


def test_forms_of_chinese():
  pytest.importorskip("opencc", reason="pip install opencc")
  simplified, traditional = "汉字发展，头发里面", "漢字發展，頭髮裏面"
  assert han.converted(traditional, "simplified") == simplified
  assert han.converted(simplified, "traditional") == traditional
  kept, report = cleaned(traditional, han="simplified")
  assert kept == [simplified] and report.changed == {"simplified Chinese": 1}
  for form in ("simplified", "traditional"):
    converted = han.converted(CHINESE + "\u85b4\u82ce\u5e72\u91cc", form)
    assert han.converted(converted, form) == converted


def test_languages():
  pytest.importorskip("py3langid", reason="pip install py3langid")
  assert cleaned(ENGLISH, language="en")[0] and cleaned(CHINESE, language="zh")[0]
  _, report = cleaned(CHINESE, language="en")
  assert report.dropped == {"not in language en": 1}
  assert not language.is_in("12 34", "en", 0.65)
  with pytest.raises(Mistake, match=r"no language 'english'; found: .* de, .* en, "):
    documents.clean([], language="english")
