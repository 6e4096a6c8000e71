"""README's row "idea that breaks all this": a copy of experiments/train.py is a verb.

The copy prints what its two steps have imported, in an interpreter of its own: neither
other projects' formats, nor another family, objective or optimiser than the run's.
"""

import json

import processes
import pytest

from lm import lookup

# What training, evaluating, sampling and saving import nothing of.
NOT_NEEDED = (
  "lm.adapt",
  "lm.compress",
  "lm.data.examples",
  "lm.data.labels",
  "lm.data.packed",
  "lm.data.rows.corrupt.",  # any corruption
  "lm.data.sources.jsonl",
  "lm.data.sources.tfds",
  "lm.data.tokenizers.added",
  "lm.data.tokenizers.builders",
  "lm.data.tokenizers.classes",
  "lm.data.tokenizers.embedding",
  "lm.data.tokenizers.folders",
  "lm.data.tokenizers.gguf",
  "lm.data.tokenizers.recipes",
  "lm.data.tokenizers.sentencepiece",
  "lm.data.tokenizers.word_level",
  "lm.disk.gguf",
  "lm.disk.safetensors",
  "lm.generate.beam",
  "lm.generate.chat",
  "lm.generate.embed",
  "lm.nn.narrow.calls",
  "lm.nn.narrow.kernels",
  "lm.nn.quantised.int8",
  "lm.stores.adapted",
  "lm.stores.gguf",
  "lm.stores.hf",
  "lm.stores.vectors",
  "lm.serve",
  "lm.study",
  "lm.scores",
  "lm.tasks",
  "lm.train.simple",
  "lm.train.teacher",
  *("gguf", "jinja2", "matplotlib", "safetensors", "sentencepiece"),
  *("llguidance", "pydantic", "starlette", "uvicorn"),
  *("tensorboard", "tensorflow", "torch", "transformers"),
)
# All that is imported of rooms in which a run names what it wants.
WANTED = {
  "lm.models": {"decoder"},
  "lm.objectives": {"next_token", "scoring", "softmax"},
  "lm.optim": {"matrices", "muon", "rules", "schedules"},
  "lm.optim.schedules": {"linear"},
  "lm.data.rows": {"concat", "corrupt"},
  "lm.data.tokenizers": {
    "bpe",
    "ends",
    "files",
    "tidy",
    "tokenizer",
    "vocabulary",
  },
  "lm.stores": {"differing", "owner", "run", "store", "weights"},
}


@pytest.fixture(scope="module")
def idea(tmp_path_factory):
  """(the run of a copy of train.py, its folder, the names of imported modules)."""
  folder = tmp_path_factory.mktemp("idea")
  code = (processes.ROOT / "experiments" / "train.py").read_text()
  place = "  if jax.process_index() == 0:\n    draw(folder)\n"
  assert code.count(place) == 1
  code = code.replace(place, f'  say(" ".join(["imported:", *sys.modules]))\n{place}')
  (folder / "idea.py").write_text(
    code.replace("import jax\n", "import sys\n\nimport jax\n")
  )
  flags = processes.flags(
    folder / "run",
    processes.corpus(folder),
    data__tokenizer="bpe-300",
    eval__sample_tokens=4,
  )
  done = processes.fresh(folder / "idea.py", *flags)
  assert done.code == 0, done.err
  [names] = [x for x in done.out.splitlines() if x.startswith("imported: ")]
  return done, folder / "run", names.split()[1:]


def test_a_copy_of_train_is_an_experiment(idea):
  done, folder, _ = idea
  assert "launch.sh generate --workdir=" in done.out
  rows = processes.metrics(folder)
  assert [row["step"] for row in rows] == [1, 2, 2]
  assert json.loads((folder / "config.json").read_text())["num_steps"] == 2
  assert (folder / "checkpoints" / "2").is_dir()
  assert (folder / "samples.txt").read_text().strip()


def test_two_steps_import_nothing_that_they_do_not_need(idea):
  _, _, imported = idea
  surplus = [name for name in imported if name.startswith(tuple(NOT_NEEDED))]
  assert not surplus
  for package, wanted in WANTED.items():
    members = set(lookup.names(package))
    assert {n for n in members if f"{package}.{n}" in imported} == wanted, package


def test_what_is_not_needed_exists():
  """So that a module that moved is not missed here."""
  for name in NOT_NEEDED:
    if name.startswith("lm."):
      package, _, module = name.rstrip(".").rpartition(".")
      assert module in lookup.names(package), name
