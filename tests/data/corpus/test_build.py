"""Prepared data: addressed by content, whole or absent, the same by any build."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from lm.data import clean as cleaning
from lm.data import sources, tokenizers
from lm.data.corpus import build, parallel, prepared, reader, shards
from lm.data.sources import _chunks, _records
from lm.data.sources import text as text_source

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "then"]
ROOT = pathlib.Path(build.__file__).parents[3]


def text_of(num: int, seed: int = 0) -> str:
  rng = np.random.default_rng(seed)
  return "\n\n".join(" ".join(rng.choice(WORDS, 12)) + "." for _ in range(num))


@pytest.fixture
def corpus(tmp_path):
  path = tmp_path / "corpus.txt"
  path.write_text(text_of(120))
  return path


@pytest.fixture
def make(corpus, tmp_path):
  def prepare(**change):
    settings = dict(
      source=f"text:{corpus}",
      tokenizer="bpe-300",
      clean={},
      cache=tmp_path / "cache",
      log=lambda line: None,
    )
    return prepared.corpus(**(settings | change))

  return prepare


def contents(folder) -> dict:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def test_tokens_are_the_cleaned_documents(make, corpus, tmp_path):
  prepared = make()
  documents = sources.documents(f"text:{corpus}", cache=tmp_path)
  for split in ("train", "heldout"):
    tokens, offsets = prepared.tokens(split), prepared.offsets(split)
    texts = [record["text"] for record in documents[split]]
    assert len(offsets) == len(texts) + 1
    assert offsets[-1] == len(tokens)
    for text, start, end in zip(texts, offsets[:-1], offsets[1:], strict=True):
      assert prepared.tokenizer.decode(tokens[start : end - 1]) == text
      assert tokens[end - 1] == prepared.tokenizer.eos
  split_report = prepared.report["train"]
  assert (
    split_report["documents"]
    == split_report["cleaning"]["kept"]
    == len(documents["train"])
  )
  assert "kept" in (prepared.folder / "report.txt").read_text()


def test_a_second_call_opens_what_the_first_made(make, monkeypatch):
  first = make()
  monkeypatch.setattr(sources, "documents", None)  # would fail if it were called
  assert make().digest(first.tokenizer) == first.digest(first.tokenizer)


def test_whatever_it_is_made_of_changes_the_folder(make, corpus):
  folders = [make().folder]
  folders.append(make(tokenizer="bytes").folder)
  folders.append(make(clean={"unicode": "NFKC"}).folder)
  corpus.write_text(text_of(120, seed=1))
  folders.append(make().folder)
  assert len(set(folders)) == 4


STAGES = (cleaning, tokenizers, shards, text_source, _records)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
def test_the_version_of_every_stage_is_part_of_the_name(make, monkeypatch, stage):
  first = make().folder
  monkeypatch.setattr(stage, "VERSION", stage.VERSION + 1)
  assert make().folder != first


NAMED = """
import sys
from lm.data.corpus import prepared
print(prepared.corpus(sys.argv[1], "bpe-300", clean={}, cache=sys.argv[2]).folder.name)
"""


def test_comments_and_new_files_leave_the_name_as_it_is(make, corpus, tmp_path):
  copy = shutil.copytree(ROOT / "lm", tmp_path / "copy" / "lm")
  for path in copy.joinpath("data").rglob("*.py"):
    path.write_text(path.read_text() + "# A remark.\n")
  (copy / "data" / "rows" / "new.py").write_text('"""Nothing."""\n')
  run = subprocess.run(
    [sys.executable, "-c", NAMED, f"text:{corpus}", tmp_path / "other"],
    env=os.environ | {"PYTHONPATH": str(copy.parent)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  )
  assert run.stdout.splitlines()[-1] == make().folder.name


def test_a_tokenizer_file_counts_by_content(make, tmp_path):
  for name in "ab":
    tokenizers.make("bpe-280", [text_of(40)]).save(tmp_path / name)
  first = make(tokenizer=str(tmp_path / "a"))
  assert make(tokenizer=str(tmp_path / "b")).folder == first.folder
  tokenizers.make("bpe-290", [text_of(40)]).save(tmp_path / "b")
  assert make(tokenizer=str(tmp_path / "b")).folder != first.folder


def test_many_shards_and_many_processes_make_the_same(make, tmp_path, monkeypatch):
  whole = make()
  # As if the corpus were large: tiny shards, and everything done by two processes.
  monkeypatch.setattr(_chunks, "CHUNK_BYTES", 500)
  monkeypatch.setattr(parallel, "ALONE", 0)
  monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
  parts = make(cache=tmp_path / "other")
  assert len(parts.manifest["splits"]["train"]["shards"]) > 3
  for split in ("train", "heldout"):
    np.testing.assert_array_equal(parts.offsets(split), whole.offsets(split))
    actual, expected = parts.tokens(split), whole.tokens(split)
    np.testing.assert_array_equal(actual[:], expected[:])
    for start in range(0, len(actual), 37):  # slices within and across shards
      np.testing.assert_array_equal(actual[start:][:90], expected[start : start + 90])
      assert actual[start] == expected[start]


def test_a_build_that_dies_at_any_write_goes_on(make, tmp_path, monkeypatch):
  monkeypatch.setattr(_chunks, "CHUNK_BYTES", 3500)
  monkeypatch.setattr(reader, "verify", lambda *_: None)  # it writes checked.json
  expected = contents(make(tokenizer="bytes").folder)
  replace, survives, logged = os.replace, 0, []

  class Died(BaseException):
    pass

  def dying(source, target):
    nonlocal writes_left
    writes_left -= 1
    if writes_left < 0:  # like a kill: half a file stays
      target.with_name("half.tmp").write_bytes(b"half")
      raise Died
    replace(source, target)

  while True:
    writes_left, cache = survives, tmp_path / f"cache{survives}"
    monkeypatch.setattr(os, "replace", dying)
    try:
      make(tokenizer="bytes", cache=cache)
      break
    except Died:
      assert not [p for p in cache.glob("prepared/*/*") if ".partial" not in str(p)]
    monkeypatch.setattr(os, "replace", replace)
    resumed = make(tokenizer="bytes", cache=cache, log=logged.append)
    assert contents(resumed.folder) == expected
    survives += 1
  assert survives > len(expected)
  assert any("reused 1 tasks" in line for line in logged)


def test_a_build_does_not_follow_a_link(make, tmp_path):
  mine, prepared = tmp_path / "mine", make().folder
  expected = contents(prepared)
  shutil.rmtree(prepared)
  mine.mkdir()
  (mine / "notes.tmp").write_text("mine")
  prepared.with_name(f"{prepared.name}.partial").symlink_to(mine)
  assert contents(make().folder).keys() == expected.keys()
  assert contents(mine) == {"notes.tmp": b"mine"} and not prepared.is_symlink()


def test_a_shard_that_was_damaged_is_made_again(tmp_path):
  tok = tokenizers.byte_tokenizer()
  entry = shards.write(tok, tmp_path, 0, ["hello", "world"])
  written = tmp_path.joinpath("00000.tokens").stat().st_mtime_ns
  assert shards.write(tok, tmp_path, 0, ["hello", "world"]) == entry
  assert tmp_path.joinpath("00000.tokens").stat().st_mtime_ns == written
  for name in ("00000.tokens", "00000.lengths.npy"):
    data = bytearray((tmp_path / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    assert shards.write(tok, tmp_path, 0, ["hello", "world"]) == entry
  assert shards.write(tok, tmp_path, 0, ["other"]) != entry


SCRIPT = """
import os, signal, sys
from lm.data.corpus import parallel, prepared
from lm.data.sources import _chunks
from lm.disk import atomic
source, cache, dies, processes = sys.argv[1:]
_chunks.CHUNK_BYTES = 1000
if processes == "many":
  parallel.ALONE, parallel.usable_cores = 0, lambda: 2
if dies == "dies":
  rename = atomic.rename_folder
  atomic.rename_folder = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
data = prepared.corpus(source, "bpe-300", clean={}, cache=cache)
print(data.digest(data.tokenizer))
"""


def run(corpus, cache, dies="lives", processes="one"):
  # The script has no `if __name__ == "__main__"`, like many short scripts.
  script = cache.parent / "script.py"
  if not script.exists():  # a process that is starting may be reading it
    script.write_text(SCRIPT)
  return subprocess.Popen(
    [sys.executable, script, f"text:{corpus}", cache, dies, processes],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    text=True,
  )


def test_kill_9_and_two_at_once(corpus, tmp_path):
  cache = tmp_path / "cache"
  killed = run(corpus, cache, "dies", "many")
  killed.communicate()
  assert killed.returncode == -signal.SIGKILL
  pair = [run(corpus, cache), run(corpus, cache)]
  outputs = [process.communicate()[0].splitlines() for process in pair]
  assert [process.returncode for process in pair] == [0, 0]
  assert outputs[0][-1] == outputs[1][-1]
  # One of the two builds, and reuses the finished shards of the killed process.
  assert ["reused" in "".join(lines) for lines in outputs].count(True) == 1


def test_wide_vocabularies_take_four_bytes():
  assert shards.token_dtype(65536) == np.uint16
  assert shards.token_dtype(65537) == np.uint32


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"tokenizer": "gpt9"}, "bpe-N"),
    ({"source": "text:/no/such"}, "no file or folder"),
    ({"clean": {"min_chars": 10**6}}, "nothing of the train text"),
    ({"clean": {"lower": True}}, "no cleaning rule"),
  ],
)
def test_wrong_inputs_are_one_line(make, change, message):
  with pytest.raises(ValueError, match=message) as caught:
    make(**change)
  assert "\n" not in str(caught.value)


def test_what_is_refused_leaves_no_half(make, tmp_path):
  with pytest.raises(ValueError):
    make(clean={"lower": True})
  assert not (tmp_path / "cache").exists()
  for _ in range(2):
    with pytest.raises(ValueError, match="nothing of the train text"):
      make(clean={"min_chars": 10**6})
    assert [path.suffix for path in tmp_path.glob("cache/prepared/*")] == [".lock"]


def test_an_empty_file_is_refused(make, corpus):
  corpus.write_text("")
  with pytest.raises(ValueError, match="is empty"):
    make()


def test_the_manifest_lists_its_inputs(make):
  made_of = json.loads((make().folder / "manifest.json").read_bytes())["made_of"]
  assert set(made_of) == {"source", "content", "tokenizer", "clean", "versions"}
