"""Datasets: valid settings, one tokenizer for all sources, sums over sources."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import processes
import pytest

from lm.data import Data, prepare, sources

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
import shrink

def get_config():
  cfg = shrink.get_config()
  cfg.data = dict(
    source={sources}, weights=(1.0, 3.0), tokenizer="bpe-300", rows="concat",
    clean=dict(dedup="exact"), cache={cache!r},
  )
  return cfg
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
  """Returns the paths of two text files; only the second has the word zwölf."""
  folder = tmp_path_factory.mktemp("mixture")
  first = processes.corpus(folder, 90).rename(folder / "one.txt")
  second = processes.corpus(folder, 60, seed=1)
  second.write_text(second.read_text().replace("quick", "zwölf"))
  return first, second


@pytest.fixture(scope="module")
def config(texts):
  folder = texts[0].parent
  content = CONFIG.format(
    tests=str(processes.ROOT / "tests"),
    sources=tuple(f"text:{path}" for path in texts),
    cache=str(folder / "cache"),
  )
  (folder / "both.py").write_text(content)
  return f"--config={folder / 'both.py'}"


def test_one_tokenizer_is_learnt_from_all(texts, tmp_path):
  names = tuple(f"text:{path}" for path in texts)
  data = Data(source=names, tokenizer="bpe-400", cache=str(tmp_path))

  def dataset_of(source):
    changed = dataclasses.replace(data, source=source)
    return prepare(changed, seq=16, log=lambda line: None)

  mixture, alone, swapped = map(dataset_of, (names, names[0], names[::-1]))
  first, second = mixture.corpora
  assert first.tokenizer.digest == second.tokenizer.digest != alone.tokenizer.digest
  assert len(mixture.tokenizer.encode(" zwölf")) == 1  # learnt from the second source
  for name in ("documents", "tokens", "bytes"):
    entries = [corpus.manifest["splits"]["heldout"] for corpus in mixture.corpora]
    expected = sum(entry[name] for entry in entries)
    assert mixture.manifest["splits"]["heldout"][name] == expected
  assert mixture.counts("train").sum() == mixture.manifest["splits"]["train"]["tokens"]
  assert mixture.digest != swapped.digest
  assert list(mixture.report) == list(names) and list(alone.report) == [names[0]]
  assert mixture.folder == alone.folder.parent == first.folder.parent


def test_a_config_trains_on_a_mixture(config, tmp_path):
  whole, resumed = tmp_path / "once", tmp_path / "again"
  result = processes.run("train", config, f"--workdir={whole}", "--config.num_steps=4")
  assert result.code == 0, result.err
  saved = "--config.checkpoint.every=2"
  for steps in (2, 4):  # the second goes on from the first
    flags = config, f"--workdir={resumed}", f"--config.num_steps={steps}", saved
    result = processes.run("train", *flags)
    assert result.code == 0, result.err
  assert "continues after step 2" in result.out
  expected, actual = processes.leaves(whole, 4), processes.leaves(resumed, 4)
  assert expected.keys() == actual.keys()
  assert all(expected[name].tobytes() == actual[name].tobytes() for name in expected)
  refused = processes.run("train", *flags, "--config.data.weights=(1.0,2.0)")
  assert refused.code == 2 and "data.weights: [1.0, 3.0] then" in refused.err
  result = processes.run("evaluate", f"--workdir={whole}")
  assert result.code == 0, result.err
  assert 0 < json.loads(result.out)["eval/bits_per_byte"] < 20
  result = processes.run("prepare", config)
  assert result.code == 0 and "one.txt" in result.out, result.err


@pytest.mark.parametrize("weights", ["(1.0,)", "(1.0,2.0,3.0)", "(1.0,0.0)"])
def test_weights_that_do_not_fit_are_one_line(config, weights, tmp_path):
  cache = tmp_path / "cache"
  flags = [f"--config.data.weights={weights}", f"--config.data.cache={cache}"]
  result = processes.run("train", config, f"--workdir={tmp_path / 'run'}", *flags)
  assert result.code == 2 and result.err.count("\n") == 1
  assert "for 2 sources; wanted one above 0 for each" in result.err
  assert not pathlib.Path(cache).exists()


def test_no_weights_are_equal_ones():
  assert Data(source=("shakespeare", "sotu")).shares == [0.5, 0.5]


@pytest.mark.parametrize("settings, message", [
  (dict(source=()), "wanted the name of a source, or several"),
  (dict(source="shakspeare"), "no data source 'shakspeare'; found: shakespeare, sotu"),
  (dict(source=("sotu", "sotus")), "no data source 'sotus'"),
  (dict(weights=(1, float("nan")), source=("sotu", "sotu")), "one above 0 for each"),
  (dict(tokenizer="gpt9"), "no tokenizer 'gpt9'; it is bytes, bpe-N"),
  (dict(tokenizer="bpe-200"), "ask for bpe-258 or more"),
  (dict(rows="best"), "no rows 'best'; found: concat, cooccurrence, first_fit, stream"),
  (dict(rows="concat-3"), "'concat' takes no number"),
  (dict(rows="stream", source=("sotu", "sotu")), "'stream' takes one source, got 2"),
  (dict(clean=dict(lower=True)), "no cleaning rule 'lower'"),
  (dict(rows="first_fit", corrupt=dict(name="spans")), "wanted rows that hold text"),
])  # fmt: skip
def test_wrong_settings_are_one_line(settings, message):
  with pytest.raises(ValueError, match=message) as error:
    Data(**{"source": "shakespeare", **settings})
  assert "\n" not in str(error.value)


@pytest.fixture
def corpus(tmp_path):
  return processes.corpus(tmp_path, 60)


@pytest.mark.parametrize("kind", ["concat", "stream", "first_fit"])
def test_the_length_of_rows_is_checked(corpus, tmp_path, kind):
  settings = dict(rows=kind, cache=str(tmp_path / "cache"))
  data = Data(source=f"text:{corpus}", **settings)
  with pytest.raises(ValueError, match="seq=0; wanted 1 or more"):
    prepare(data, seq=0)
  assert not (tmp_path / "cache").exists()
  if kind != "first_fit":
    with pytest.raises(ValueError, match="give more text or a smaller seq"):
      prepare(data, seq=10**6, log=lambda line: None)


def test_rows_of_another_kind_tokenize_nothing_anew(corpus, tmp_path, monkeypatch):
  data = Data(source=f"text:{corpus}", cache=str(tmp_path / "cache"))
  first = prepare(data, seq=16, log=lambda line: None)
  monkeypatch.setattr(sources, "documents", None)  # would fail if it were called
  packed = dataclasses.replace(data, rows="first_fit", corrupt=dict(name="masked"))
  assert prepare(packed, seq=8).folder == first.folder


def test_a_small_and_repetitive_text_can_be_trained_on(tmp_path):
  path = tmp_path / os.fsdecode(b"caf\xe9.txt")  # the name of a path need not be UTF-8
  path.write_text("the same words again and again\n" * 100)
  data = Data(source=f"text:{path}", cache=str(tmp_path / "cache"))
  with pytest.raises(ValueError, match=r"repeats held-out text.*clean\.dedup=off"):
    prepare(data, seq=16, log=lambda line: None)
  lines = []
  dataset = prepare(
    dataclasses.replace(data, clean={"dedup": "off"}), seq=16, log=lines.append
  )
  splits = dataset.manifest["splits"]
  assert splits["train"]["documents"] == 19 * splits["heldout"]["documents"]
  size = splits["heldout"]["bytes"]
  assert 150 < size < 160
  assert lines[-1].startswith(f"warning: only {size} bytes of text are held out, in ")
  assert (
    json.loads((dataset.folder / "manifest.json").read_bytes())["made_of"]["source"]
    == f"text:{path}"
  )


def test_opening_imports_no_heavy_library(corpus, tmp_path):
  code = (
    "import sys; from lm.data import Data, prepare\n"
    f"data = Data(source='text:{corpus}', tokenizer='bpe-300', "
    f"cache={str(tmp_path / 'cache')!r})\n"
    "prepare(data, seq=16)\n"
    "print({'jax', 'tensorflow', 'tensorflow_datasets', 'grain'} & set(sys.modules))"
  )
  process = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert process.stdout.splitlines()[-1] == "set()"
