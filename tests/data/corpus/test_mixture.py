"""Mixtures: one tokenizer, a stream in proportion, all held-out text, from a config."""

import json
import pathlib

import processes
import pytest

from lm.data.corpus import mixture

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
import shrink

def get_config():
  cfg = shrink.get_config()
  cfg.data = dict(
    source={sources}, weights=(1.0, 3.0), tokenizer="bpe-300", pack="concat",
    clean=dict(dedup="exact"), cache={cache!r},
  )
  return cfg
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
  """Two files, one with a word that the other lacks."""
  folder = tmp_path_factory.mktemp("mixture")
  one = processes.corpus(folder, 90).rename(folder / "one.txt")
  other = processes.corpus(folder, 60, seed=1)
  other.write_text(other.read_text().replace("quick", "zwölf"))
  return one, other


@pytest.fixture(scope="module")
def config(texts):
  folder = texts[0].parent
  told = CONFIG.format(
    tests=str(processes.ROOT / "tests"),
    sources=tuple(f"text:{path}" for path in texts),
    cache=str(folder / "cache"),
  )
  (folder / "both.py").write_text(told)
  return f"--config={folder / 'both.py'}"


def test_one_tokenizer_is_learnt_from_all(texts, tmp_path):
  how = dict(clean={}, pack="concat", seq=16, cache=tmp_path, log=lambda line: None)
  names = [f"text:{path}" for path in texts]
  both = mixture.prepare_all(names, tokenizer="bpe-400", **how)
  [alone] = mixture.prepare_all(names[:1], tokenizer="bpe-400", **how)
  assert both[0].tokenizer.digest == both[1].tokenizer.digest != alone.tokenizer.digest
  assert len(both.tokenizer.encode(" zwölf")) == 1  # learnt from the second source
  for name in ("documents", "tokens", "bytes"):
    entries = [part.manifest["splits"]["heldout"] for part in both]
    wanted = sum(entry[name] for entry in entries)
    assert both.manifest["splits"]["heldout"][name] == wanted
  assert both.counts("train").sum() == both.manifest["splits"]["train"]["tokens"]
  assert both.digest != mixture.Mixture(both[::-1]).digest


def test_a_config_trains_on_a_mixture(config, tmp_path):
  once, again = tmp_path / "once", tmp_path / "again"
  done = processes.run("train", config, f"--workdir={once}", "--config.num_steps=4")
  assert done.code == 0, done.err
  saved = "--config.checkpoint.every=2"
  for steps in (2, 4):  # the second goes on from the first
    flags = config, f"--workdir={again}", f"--config.num_steps={steps}", saved
    done = processes.run("train", *flags)
    assert done.code == 0, done.err
  assert "goes on after step 2" in done.out
  ours, theirs = processes.leaves(once, 4), processes.leaves(again, 4)
  assert ours.keys() == theirs.keys()
  assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
  refused = processes.run("train", *flags, "--config.data.weights=(1.0,2.0)")
  assert refused.code == 2 and "data.weights: [1.0, 3.0] then" in refused.err
  done = processes.run("evaluate", f"--workdir={once}")
  assert done.code == 0, done.err
  assert 0 < json.loads(done.out)["eval/bits_per_byte"] < 20
  done = processes.run("prepare", config)
  assert done.code == 0 and "one.txt" in done.out, done.err


@pytest.mark.parametrize("weights", ["(1.0,)", "(1.0,2.0,3.0)", "(1.0,0.0)"])
def test_weights_that_do_not_fit_are_one_line(config, weights, tmp_path):
  cache = tmp_path / "cache"
  flags = [f"--config.data.weights={weights}", f"--config.data.cache={cache}"]
  done = processes.run("train", config, f"--workdir={tmp_path / 'run'}", *flags)
  assert done.code == 2 and done.err.count("\n") == 1
  assert "for 2 sources; wanted one above 0 for each" in done.err
  assert not pathlib.Path(cache).exists()


def test_no_weights_are_equal_ones():
  assert mixture.shares((), 4) == [0.25] * 4
