"""Debian's descriptions: joined by their keys, from an apt-get that is fake."""

import json
import os
import stat

import pytest

from lm.data import tables
from lm.data.tables import debian

PACKAGES = """\
Package: frob
Version: 1

Package: frob-doc
Source: frob (1.0)
Version: 1
"""
ENGLISH = """\
Package: frob
Description-md5: 1
Description-en: tool that frobs
 It frobs
 fast.
 .
 Features:
  * one
  * two

Package: frob-doc
Description-md5: 2
Description-en: manual of frob
 It frobs
 fast.
 .
 The manual.

Package: zap
Description-md5: 3
Description-en: zap
"""
FRENCH = """\
Package: frob
Description-md5: 1
Description-fr: outil qui frobe
 Il frobe vite.
 .
 Atouts :
  * un

Package: frob-doc
Description-md5: 2
Description-fr: manuel de frob
 Il frobe vite.
 .
 The manual.

Package: zap
Description-md5: 3
Description-fr: zap
 Un paragraphe de plus.
"""
INDEXES = {
  "main_binary-amd64_Packages": PACKAGES,
  "main_i18n_Translation-en": ENGLISH,
  "main_i18n_Translation-fr": FRENCH,
}
FETCH = """\
#!/bin/sh
test "$1" = update || exit 3
scratch=$(dirname "$APT_CONFIG")
cat "$scratch/parts/"* > {folder}/settings
test -s {folder}/settings || exit 4
cp {folder}/indexes/* "$scratch/lists"
"""
CONFIG = "#!/bin/sh\necho \"PARTS='{folder}/system/'\"\n"


@pytest.fixture
def apt(tmp_path, monkeypatch):
  """The folder of a fake apt-get, which fetches INDEXES, and of its settings."""
  for name in ("bin", "system", "indexes"):
    (tmp_path / name).mkdir()
  (tmp_path / "system" / "10none").write_text('Acquire::Languages "none";\n')
  for name, text in INDEXES.items():
    (tmp_path / "indexes" / f"suite_{name}").write_text(text)
  plant(tmp_path, "apt-get", FETCH.format(folder=tmp_path))
  plant(tmp_path, "apt-config", CONFIG.format(folder=tmp_path))
  monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
  return tmp_path


def plant(folder, name, text):
  file = folder / "bin" / name
  file.write_text(text)
  file.chmod(file.stat().st_mode | stat.S_IEXEC)


def test_pairs_are_joined_by_key_and_belong_to_their_source_package(apt):
  cache = apt / "cache"
  frob, manual = ({"package": name, "group": "frob"} for name in ("frob", "frob-doc"))
  lines = [
    dict(source="tool that frobs", target="outil qui frobe", part="synopsis") | frob,
    dict(source="It frobs fast.", target="Il frobe vite.", part="paragraph") | frob,
    dict(source="manual of frob", target="manuel de frob", part="synopsis") | manual,
    dict(source="It frobs fast.", target="Il frobe vite.", part="paragraph") | manual,
  ]
  # "The manual." is not translated, zap neither; the list has lines of its own.
  assert tables.read("debian:en-fr", cache=cache) == {"train": lines}
  settings = (apt / "settings").read_text()
  assert settings.index('"none"') < settings.index('{ "en"; "fr"; }')
  plant(apt, "apt-get", "#!/bin/sh\nexit 9\n")  # it is not fetched again
  kept = tables.read("debian:en-fr/synopsis", cache=cache)["train"]
  assert kept == [line for line in lines if line["part"] == "synopsis"]


def test_long_descriptions_have_their_synopses(apt):
  records = tables.read("debian:en", cache=apt / "cache")["train"]
  assert [record["summary"] for record in records] == [
    "tool that frobs",
    "manual of frob",
    "zap",
  ]
  assert records[0]["text"] == "It frobs fast.\n\nFeatures:\n* one\n* two"
  assert records[1]["text"] == "It frobs fast.\n\nThe manual."
  assert records[2] == {"text": "", "summary": "zap", "package": "zap", "group": "zap"}


@pytest.mark.parametrize(
  "name, message",
  [
    ("debian", "no table 'debian'; found: "),
    ("debian:english", "no table debian:english; wanted a pair such as en-fr"),
    ("debian:en-fr-de", "no table debian:en-fr-de; wanted a pair"),
    ("debian:en/synopsis", "no table debian:en/synopsis; wanted a pair"),
    ("debian:en-fr/list", "no table debian:en-fr/list; wanted a pair"),
    ("debian:en-de", "apt's sources have no descriptions in 'de'"),
  ],
)
def test_what_there_is_no_table_of(name, message, apt):
  with pytest.raises(ValueError, match=message):
    tables.read(name, cache=apt / "cache")


def test_apt_that_fails_or_is_missing_is_one_line(apt, monkeypatch):
  plant(apt, "apt-get", "#!/bin/sh\necho 'W: slow\nE: no network' >&2\nexit 100\n")
  with pytest.raises(ValueError, match=r"apt-get update failed \(E: no network\)"):
    tables.read("debian:en", cache=apt / "cache")
  assert not list((apt / "cache").rglob("*.jsonl"))
  monkeypatch.setenv("PATH", str(apt / "system"))
  with pytest.raises(ValueError, match="there is no apt-get; make it on"):
    tables.read("debian:en", cache=apt / "cache")


def test_a_table_that_exists_needs_no_apt(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  file = tmp_path / "debian" / f"en-{debian.VERSION}.jsonl"
  file.parent.mkdir()
  file.write_text(json.dumps({"text": "a", "summary": "b"}) + "\n")
  assert tables.read("debian:en", cache=tmp_path)["train"][0]["summary"] == "b"
