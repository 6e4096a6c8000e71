import dataclasses
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm.data import clean
from lm.data.clean import dedup, documents
from lm.data.clean.rewrite import rewrite


def record(text, name="a"):
  return {"id": name, "text": text}


def named(texts):
  return [record(text, str(index)) for index, text in enumerate(texts)]


def rewritten(text, **rules):
  defaults = dict(unicode="NFC", control=True, boilerplate=True, stopwords="")
  return rewrite(text, **defaults | rules)[0]


def prose(seed, num_words=300):
  """Returns words drawn from a thousand: two texts share words and no phrases."""
  rng = np.random.default_rng(seed)
  return " ".join(f"word{number}" for number in rng.integers(1000, size=num_words))


# Patterns that cleaning removes, and texts that match them after another removal.
HARD = st.lists(
  st.sampled_from(
    (
      *"\n\n \tae\u0301\u0338=\r\x00\x0c\x85\ufeff\x1b-1\ufb01\u2028",
      *("[0m", "\r\n", "the ", "Page 12", "\uff30age 1", "- 3 -", "[Pg 4]"),
      "\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n",
      "\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n",
      "\n*END THE SMALL PRINT\n",
      "\nEnd of the Project Gutenberg EBook\n",
    )
  )
).map("".join)


@given(
  st.lists(HARD | st.text(), max_size=6),
  st.sampled_from(clean.FORMS),
  st.sampled_from(clean.DEDUP),
  st.sampled_from(["", "english"]),
)
@example(["the Page 12"], "NFC", "none", "english")
@example(["\x1b\x1b[0m[0m\r\x00\n"], "", "none", "")
def test_cleaning_twice_changes_nothing_more(texts, unicode, rule, stopwords):
  rules = dict(unicode=unicode, dedup=rule, stopwords=stopwords)
  cleaned, _ = documents.clean(named(texts), **rules)
  cleaned_again, report = documents.clean(cleaned, **rules)
  assert cleaned_again == cleaned
  assert report.kept == report.documents and not report.changed and not report.dropped


@given(st.lists(st.text() | HARD, max_size=8))
def test_report_accounts_for_every_document(texts):
  kept_records, report = documents.clean(named(texts), dedup="minhash", max_chars=40)
  assert report.documents == len(texts) and report.kept == len(kept_records)
  assert report.kept + sum(report.dropped.values()) == len(texts)
  assert report.chars == sum(map(len, texts))
  assert report.kept_chars == sum(len(document["text"]) for document in kept_records)
  assert sorted(report.examples) == sorted([*report.changed, *report.dropped])


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"])))
def test_without_rewrites_every_character_stays(text):
  rules = dict(unicode="", boilerplate=False)
  assert rewritten(text, **rules, control=False) == text
  assert rewritten(text, **rules) == text.replace("\ufeff", "")


@given(st.text())
def test_text_is_normal_and_has_no_controls(text):
  rewritten_text = rewritten(text)
  assert unicodedata.is_normalized("NFC", rewritten_text)
  assert not [
    c for c in rewritten_text if unicodedata.category(c) == "Cc" and c not in "\t\n"
  ]


@pytest.mark.parametrize(
  ("before", "after"),
  [
    ("a\r\nb\rc\x0cd\x0be\x85f", "a\nb\nc\nd\ne\nf"),
    ("\ufeffa\x00b\x1b[31mred\x1b[0m\x07", "abred"),
    ("cafe\u0301 \U0001f468\u200d\U0001f469 \u0645\u200c\u0646", None),
    ("x\n[Pg 12]\ny\nPage 7 of 90\nz\n- 3 -\n\u2014 4 \u2014", "x\ny\nz\n"),
    ("12\nXII\nSee page 12\n--- 3 ---\nPage 12 is torn\n[12]\n", None),
    ("*** not a mark ***\nfree of Project Gutenberg\n", None),
    (
      "legal\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n\nI.\n\ntext\n",
      "I.\n\ntext\n",
    ),
    ("text\n\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nlegal", "text\n"),
    (
      "small\n*END*THE SMALL PRINT! FOR ETEXTS*Ver.04\nHo! A Gutenberg.",
      "Ho! A Gutenberg.\n",
    ),
    ("text\nEnd of the Project Gutenberg EBook of X, by Y\n", "text\n"),
  ],
)
def test_rewrites(before, after):
  if after is None:
    after = unicodedata.normalize("NFC", before)
  assert rewritten(before) == after


def test_stop_words_go_and_lines_stay():
  rewritten_text = rewritten(
    "To be, or\nnot to be: (that) is The question.\n", stopwords="english"
  )
  assert rewritten_text == "\nquestion.\n"
  assert rewritten("Other theory\tbelow thee", stopwords="english") == "theory\tthee"


def test_filters_report_their_reasons():
  records = named(
    ["ab", "abcdef" * 9, "\u0430\u0431\u0432\u0433 ab", "abcd 1", "12345", " "]
  )
  kept_records, report = documents.clean(
    records, min_chars=3, max_chars=20, script="LATIN"
  )
  assert kept_records == [records[3]]
  assert report.dropped == {
    "empty": 1,
    "shorter than 3 characters": 1,
    "longer than 20 characters": 1,
    "not in LATIN script": 2,
  }
  assert report.examples["not in LATIN script"] == ["2", "4"]
  assert report.lines() == [
    "kept 1 of 6 documents, 6 of 75 characters",
    "dropped 1: shorter than 3 characters (0)",
    "dropped 1: longer than 20 characters (1)",
    "dropped 2: not in LATIN script (2, 4)",
    "dropped 1: empty (5)",
  ]
  assert report.as_dict()["dropped"]["empty"] == 1


@pytest.mark.parametrize(
  ("text", "script", "share"),
  [
    ("abc \u0431", "LATIN", 0.75),
    ("\u4f60\u597d!", "CJK", 1.0),
    ("1, 2", "LATIN", 0.0),
  ],
)
def test_script_share(text, script, share):
  assert documents.script_share(text, script) == share


@pytest.mark.parametrize(
  ("rules", "expected"),
  [
    (dict(dedupe="exact"), "no cleaning rule 'dedupe'; found: unicode, control"),
    (dict(dedup="fuzzy"), "wanted one of ('none', 'exact', 'minhash', 'off')"),
    (dict(unicode="NFX"), "'NFKC'"),
    (dict(stopwords="klingon"), "'english'"),
    (dict(near=80), "near=80; wanted more than 0, at most 1"),
    (dict(script="Latin"), "LATIN"),
  ],
)
def test_wrong_rules_are_refused(rules, expected):
  with pytest.raises(ValueError) as error:
    documents.clean([], **rules)
  assert expected in str(error.value)


def test_exact_duplicates_go_and_the_first_stays():
  kept_records, report = documents.clean(
    named(["one", "two", "one\r", "one", "ONE"]), control=True
  )
  assert [document["id"] for document in kept_records] == ["0", "1", "2", "4"]
  assert report.dropped == {"duplicate": 1}
  assert report.examples["duplicate"] == ["3 = 0"]
  assert len(documents.clean(named(["one", "one"]), dedup="none")[0]) == 2


def planted(text, seed, share):
  """Returns the text in capitals and other spacing, a share of its words replaced."""
  rng = np.random.default_rng(seed)
  words = [w if rng.random() > share else f"new{seed}" for w in text.split()]
  return "\n  ".join(words).upper()


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(30, 3000))
def test_planted_near_duplicates_are_found_and_no_others(seed, num_words):
  originals = [prose(seed + n, num_words) for n in range(4)]
  copies = [planted(text, seed, 0.02) for text in originals[:2]]
  expected = [
    copy
    for copy, text in zip(copies, originals[:2], strict=True)
    if dedup.jaccard(dedup.shingles(copy), dedup.shingles(text)) >= 0.8
  ]
  kept_records, report = documents.clean(named(originals + copies), dedup="minhash")
  assert [document["text"] for document in kept_records[:4]] == originals
  assert report.dropped["near duplicate"] == len(expected)
  stricter, _ = documents.clean(named(originals + copies), dedup="minhash", near=0.999)
  assert len(stricter) >= 4


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.1, 1.0])
@pytest.mark.parametrize("num_words", [5, 300, 20_000])
def test_minhash_estimates_jaccard(share, num_words):
  text = prose(0, num_words)
  copy = planted(text, 1, share)
  exact = dedup.jaccard(dedup.shingles(text), dedup.shingles(copy))
  estimate = np.mean(dedup.minhash(text) == dedup.minhash(copy))
  # Four standard deviations of 128 draws; more when a few shingles fill all the bins.
  assert abs(exact - estimate) < (0.18 if num_words > 5 else 0.5)
  assert exact == 1 or share > 0


def test_any_text_has_a_signature():
  for text in ("", " ", "a", "\u4f60", "a" * 1000):
    assert dedup.minhash(text).shape == (dedup.BINS,)
  assert (dedup.minhash("One  two\n") == dedup.minhash("one two")).all()
  assert dedup.jaccard(dedup.shingles("a"), dedup.shingles("b")) == 0


def test_hashes_are_the_same_on_every_machine_and_version():
  golden = [1289426663, 3448806098, 1313218237]
  assert dedup.minhash("the same for ever")[:3].tolist() == golden


def clean_splits(splits, **rules):
  """Returns ({split: cleaned records}, {split: Report}), as preparing does."""
  checked = clean.checked(rules)
  only_rewrites = dataclasses.asdict(documents.heldout_rules(checked))
  heldout, heldout_report = documents.clean(splits["heldout"], **only_rewrites)
  against = () if checked.dedup == "off" else heldout
  train, train_report = documents.clean(splits["train"], against=against, **rules)
  reports = {"train": train_report, "heldout": heldout_report}
  documents.check_not_empty(reports)
  return {"train": train, "heldout": heldout}, reports


def test_training_text_never_repeats_held_out_text():
  heldout_text = prose(1)
  splits = {
    "train": named(
      [prose(2), planted(heldout_text, 3, 0.01), prose(4), heldout_text, prose(2)]
    ),
    "heldout": [
      record(heldout_text, "h"),
      record(heldout_text, "i"),
      record("\x00short", "j"),
    ],
  }
  for rule, duplicates in (("exact", 1), ("minhash", 1), ("none", 0)):
    cleaned, reports = clean_splits(splits, dedup=rule, min_chars=10)
    assert [document["id"] for document in cleaned["heldout"]] == ["h", "i", "j"]
    assert cleaned["heldout"][2]["text"] == "short"
    assert reports["train"].dropped["repeats held-out text"] == 2
    assert reports["train"].examples["repeats held-out text"] == ["1 = h", "3 = h"]
    assert reports["train"].kept == 3 - duplicates
  cleaned, reports = clean_splits(splits, dedup="off", min_chars=10)
  assert cleaned["train"] == splits["train"] and not reports["train"].dropped


def test_nothing_left_is_an_error_with_its_reasons():
  splits = {"train": [record("short")], "heldout": [record("held")]}
  with pytest.raises(ValueError, match=r"nothing of the train text.*shorter than 9"):
    clean_splits(splits, min_chars=9)
  with pytest.raises(ValueError, match=r"data\.clean\.dedup=off trains on text"):
    clean_splits({"train": [record("a")], "heldout": [record("a")]})
  with pytest.raises(ValueError, match=r"nothing of the heldout text.*empty"):
    clean_splits({"train": [record("a")], "heldout": [record("\n")]})


def test_many_workers_do_as_one():
  texts = [prose(n % 7, 40) for n in range(40)]
  with ThreadPoolExecutor(3) as pool:
    assert documents.clean(
      named(texts), dedup="minhash", apply=pool.map
    ) == documents.clean(named(texts), dedup="minhash")


@given(st.text(st.sampled_from("aB \n\u00df\u4f60"), max_size=80), st.integers(1, 9))
def test_shingles_in_blocks_are_those_of_the_whole(text, size):
  whole = dedup.shingles(text)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(dedup, "BLOCK_CHARS", size)
    np.testing.assert_array_equal(dedup.shingles(text), whole)
