"""Verbs with flags and surroundings as users have them: ~, a,b, locales, a home."""

import json
import os
import pathlib

import jax
import numpy as np
import processes
import pytest
from ml_collections import ConfigDict

import lm
from experiments import tuples
from lm.data import tokenizers
from lm.letters import unbox

TUPLES = {
  "a,b": ("a", "b"),
  "a, b,": ("a", "b"),
  "1,3": (1, 3),
  "0.5": (0.5,),
  "a": ("a",),
  "a/.*": ("a/.*",),
  "('a', 'b')": ("a", "b"),
  "['a']": ("a",),
  "((1, 'x'),)": ((1, "x"),),
  "()": (),
  "": (),
}


@pytest.mark.parametrize("text", list(TUPLES))
def test_a_tuple_is_a_flag(text):
  values = ConfigDict(dict(data=dict(weights=()), name="x,y"))
  expected = f"--config.data.weights={TUPLES[text]!r}"
  others = ["--config.name=a,b", "--config.none.weights=a,b", "--weights=a,b"]
  flags = [f"--config.data.weights={text}", *others]
  assert tuples.spelt_out(flags, values) == [expected, *others]
  flags = ["--config.data.weights", text]
  assert tuples.spelt_out(flags, values) == [flags[0], repr(TUPLES[text])]


def test_a_tuple_that_is_none_is_a_mistake():
  with pytest.raises(
    ValueError, match=r"\('a' is no tuple; wanted a,b or \('a', 'b'\)"
  ):
    tuples.parse("('a'")


def test_several_sources_and_a_home_folder_in_flags(tmp_path):
  processes.corpus(tmp_path, 90).rename(tmp_path / "a.txt")
  processes.corpus(tmp_path, 60, seed=1).rename(tmp_path / "b, c.txt")
  (tmp_path / "mine.py").write_text((processes.ROOT / "tests/shrink.py").read_text())
  sources = ("text:~/a.txt", "text:~/b, c.txt")
  for several in (",".join(sources), repr(sources)):
    flags = [f"--config.data.source={several}", "--config.data.weights=1,3"]
    flags += ["--config.data.cache=~/cache", "--config.data.tokenizer=bytes"]
    result = processes.run(
      "prepare", "--config=tests/shrink.py", *flags, env={"HOME": str(tmp_path)}
    )
    assert result.code == 0, result.err
  assert result.out.count("source: text:~/") == 2
  assert len(list((tmp_path / "cache" / "prepared").glob("*/manifest.json"))) == 2
  assert not (processes.ROOT / "~").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """Returns the folder of a tiny model, whose name is not ASCII."""
  folder = tmp_path_factory.mktemp("model") / "mod\u00e8le"
  sizes = dict(width=16, layers=1, heads=2, kv_heads=1, ff=32, context=32)
  decoder = lm.model("decoder", preset="llama-tiny", vocab=258, **sizes)
  params = decoder.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
  lm.save(folder, decoder, unbox(params), tokenizers.byte_tokenizer())
  return folder


ASCII = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="")


def test_odd_surroundings_change_no_text(model):
  """Runs in an ASCII locale, with 64-bit types, no home and no number of threads."""
  flags = [f"--workdir={model}", "--prompt=na\u00efve", "--max_tokens=4"]
  expected = processes.run("generate", *flags)
  assert expected.code == 0 and expected.out.startswith("na\u00efve")
  odd = dict(ASCII, JAX_ENABLE_X64="1", OMP_NUM_THREADS="a few", HOME="/nonexistent")
  result = processes.fresh("generate", *flags, env=odd)
  assert result.code == 0, result.err
  assert result.out == expected.out


def test_a_prompt_that_is_not_utf8_is_a_mistake(model):
  prompt = os.fsdecode(b"--prompt=caf\xe9")
  result = processes.fresh("generate", f"--workdir={model}", prompt)
  error = (result._folder / "err").read_bytes()
  assert result.code == 2 and error.count(b"\n") == 1
  assert b"caf\xe9: it is not UTF-8: " in error


def test_a_path_that_is_not_utf8_is_shown_as_it_is(tmp_path):
  folder = tmp_path / os.fsdecode(b"caf\xe9")
  folder.mkdir()
  processes.corpus(folder)
  flags = processes.flags(folder, folder / "corpus.txt")
  del flags[1]
  result = processes.fresh("prepare", *flags)
  lines = (result._folder / "out").read_bytes().splitlines()
  assert result.code == 0, result.err
  [line] = [line for line in lines if line.startswith(b"data: ")]
  manifest = pathlib.Path(os.fsdecode(line[6:]), "manifest.json")
  made_of = json.loads(manifest.read_bytes())["made_of"]
  assert made_of["source"] == f"text:{folder / 'corpus.txt'}"
