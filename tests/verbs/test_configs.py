"""Configs: every file of configs/ builds at its full size and trains when shrunk."""

import json
import subprocess
import sys

import chats
import jax
import numpy as np
import processes
import pytest
import shrink
import weights

import lm
from experiments import config, values
from lm import models
from lm.data import tokenizers
from lm.data.loader import batch_shapes
from lm.letters import unbox
from lm.train import compose
from lm.train.config import Experiment

# Facts of a prepared corpus; any number will do, as the model is only described.
VOCAB = 2048


def starts_from_weights(name) -> bool:
  """Returns True for a config whose model comes from a package of real weights."""
  return shrink.config(name).get("init", {}).get("path", "").startswith("package:")


each_config = pytest.mark.parametrize("name", shrink.names())
# At its full size, with the weights that it starts from.
each_whole_config = pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=weights.required if starts_from_weights(name) else ())
    for name in shrink.names()
  ],
)


def records(folder):
  """Writes a file of records with the columns of all tasks; returns its table."""
  file, texts = folder / "texts.jsonl", ["good", "bad", "fine", "poor"]
  labels, rows = ["positive", "negative"], []
  for i in range(60):
    text, word = f"{texts[i % 4]} {i}", f"{i % 2}"
    turns = [dict(role="user", content="a"), dict(role="assistant", content=text)]
    row = dict(text=text, messages=turns, source=text, target=word, summary=word)
    row |= dict(label=labels[i % 2], pair=f"{i} {i}", score=i % 3, id=f"{i}")
    row |= dict(words=["a", f"{i}"], tags=["O", f"B-{i % 2}"], title=f"{i}")
    row |= dict(context=f"a {i}", question="b", description=f"b {i}")
    row |= dict(answers=dict(text=[f"{i}"], answer_start=[2]), prompt="a")
    rows.append(row | dict(chosen=texts[i % 2], rejected=texts[1 - i % 2]))
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"


def teacher(name, folder) -> dict:
  """Returns {"teacher": path} for a config that learns from another model."""
  path, tokenizer = folder / "teacher", tokenizers.byte_tokenizer()
  if name == "tasks/prefer":
    model = models.build("decoder", vocab=tokenizer.size, width=16, layers=1, heads=2)
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    lm.save(path, model, unbox(params), tokenizer)
  elif name == "tasks/distil":
    flags = ["--config=tests/shrink.py:tasks/few_labels", f"--workdir={path}"]
    flags += [f"--config.task.train={records(folder)}"]
    result = processes.run("train", *flags)
    assert result.code == 0, result.err
  return {"teacher": str(path)} if path.exists() else {}


@each_whole_config
def test_it_builds(name, tmp_path):
  cfg = shrink.config(name)
  if "family" not in cfg.model and not cfg.init.path:
    cfg.model = dict(family="encoder", pooler=True)  # any, of the user's choice
  if name == "tasks/distil":
    cfg.update(teacher(name, tmp_path))
  described = config.complete(cfg).to_dict()
  if described["task"]:
    described["task"]["train"] = records(tmp_path)  # its own need a network
    if described["task"].get("labelled"):
      described["task"]["labelled"] = 10  # of the records that there are
    described = config.with_task(described)
  experiment = Experiment.of(described)
  plan = compose.plan(experiment, jax.devices()[:1])
  shapes = compose.row_shapes(experiment)
  batch = batch_shapes(shapes, batch=experiment.batch, mesh=plan.mesh)
  trainer = plan.trainer(plan.model(VOCAB), batch)
  state, metrics = jax.eval_shape(
    trainer.step, trainer.abstract, batch, jax.random.key(0)
  )
  describe = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert describe(state) == describe(trainer.abstract)
  assert metrics["train/loss"].shape == ()


@each_config
def test_it_runs_two_steps_when_shrunk(name, tmp_path):
  flags = processes.flags(tmp_path / "run", processes.corpus(tmp_path))
  flags[0] = f"--config=tests/shrink.py:{name}"
  if name.startswith("tasks/"):
    flags = [flag for flag in flags if not flag.startswith("--config.data.source=")]
    flags.append(f"--config.task.train={records(tmp_path)}")
  if name == "tasks/chat":
    flags.append(f"--config.data.tokenizer={chats.tokenizer(tmp_path)}")
  if name.startswith("tasks/"):
    flags += [f"--config.{key}={x}" for key, x in teacher(name, tmp_path).items()]
  result = processes.run("train", *flags)
  assert result.code == 0, result.err
  assert [row["step"] for row in processes.metrics(tmp_path / "run")] == [1, 2, 2]


@each_config
def test_it_names_its_command_and_is_short(name):
  text = (shrink.CONFIGS / f"{name}.py").read_text()
  assert f"./launch.sh train --config=configs/{name}.py" in text
  assert len(text.partition("from ml_collections")[2].splitlines()) <= 28


# Values that the files leave out and flags can change.
EVERYWHERE = {
  "config.optim.freeze": '((".*norm.*", True), (".*", False))',
  "config.optim.clip": "0.5",
  "config.data.weights": "(1.0, 3.0)",
  "config.data.source": "('shakespeare', 'sotu')",
  "config.data.clean.min_chars": "20",
  "config.mesh.fsdp": "2",
  "config.init.fresh": "('head/.*',)",
  "config.eval.score": "accuracy",
  "config.checkpoint.keep": "7",
  "config.model.context": "512",
  "config.seed": "3",
}
OF_FAMILIES = {
  "config.model.kv_heads": "1",
  "config.model.remat": "full",
  "config.loss.logits_bytes": "1000",
}


def test_any_value_is_a_flag_though_the_file_leaves_it_out():
  """Parses a command line with many flags for every config."""
  commands = []
  for name in shrink.names():
    if "init" in shrink.config(name):
      continue
    cfg = config.complete(shrink.config(name))
    values = EVERYWHERE | {
      flag: value
      for flag, value in OF_FAMILIES.items()
      if flag.split(".")[2] in cfg[flag.split(".")[1]]
    }
    changes = [f"--{flag}={value}" for flag, value in values.items()]
    commands.append(["train", f"--config=configs/{name}.py", *changes])
  assert sum("--config.model.kv_heads=1" in command for command in commands) >= 5
  assert processes.problems(commands) == [""] * len(commands)


def test_a_flag_makes_a_mixture_of_one_source(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
  first, second = (processes.corpus(tmp_path / x, seed=ord(x)) for x in "ab")
  flags = processes.flags(tmp_path / "run", first)
  flags += [f"--config.data.source=('text:{first}', 'text:{second}')"]
  flags += ["--config.data.weights=(1.0, 3.0)"]
  result = processes.run("train", *flags)
  assert result.code == 0, result.err
  stored = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
  assert stored["source"] == [f"text:{first}", f"text:{second}"]
  assert stored["weights"] == [1.0, 3.0]


def experiment_of(flags):
  """Returns (the Experiment of a command line, the notes on its flags)."""
  script = (
    "import sys, json\nfrom absl import flags\nfrom experiments import config\n"
    "config.flag()\nflags.FLAGS(config.read(['x', *sys.argv[1:]]))\n"
    "print(json.dumps([config.experiment()[1]['model'], config.notes()]))"
  )
  command = [sys.executable, "-c", script, *flags]
  result = subprocess.run(
    command, cwd=processes.ROOT, capture_output=True, text=True, check=True
  )
  return json.loads(result.stdout)


@pytest.mark.parametrize("between", ["=", " "])
def test_a_preset_given_as_a_flag_beats_the_sizes_of_the_file(between):
  flags = ["--config=configs/family/gpt.py", "--config.model.layers=3"]
  flags += f"--config.model.preset{between}gpt2-124m".split(" ")
  model, notes = experiment_of(flags)
  assert (model["width"], model["heads"], model["context"]) == (768, 12, 1024)
  assert model["layers"] == 3  # a flag beats both
  assert (model["dtype"], model["scan"]) == ("bfloat16", False)  # not of a preset
  assert notes == [
    "preset gpt2-124m, a flag, replaces width=192, heads=2 of configs/family/gpt.py"
  ]


@each_whole_config
def test_every_value_has_a_meaning(name):
  cfg = shrink.config(name)
  if "family" not in cfg.model and not cfg.init.path:
    cfg.model = dict(family="encoder", pooler=True)  # any, of the user's choice
  completed = config.complete(cfg).to_dict()
  named = values.meanings(completed)
  assert [path for path, _ in values.flat(completed) if not named.get(path)] == []


def test_help_lists_the_values_of_a_config():
  result = processes.run("train", "--config=configs/family/bert.py", "--help")
  assert (result.code, result.err) == (0, "")
  lines = [" ".join(line.split()) for line in result.out.splitlines()]
  assert "--config.num_steps=2000 updates in all" in lines
  assert "--config.model.width=192 D" in lines
  assert "--config.data.corrupt.name=masked a file of lm/data/rows/corrupt" in lines


@pytest.mark.parametrize(
  ("flag", "hint"),
  [
    ("num_steps=60", "; did you mean --config.num_steps?"),
    ("optim.lr=1", "; did you mean --config.optim.lr?"),
    ("keep=9", "; did you mean --config.checkpoint.keep?"),
    ("name=a", "; did you mean --config.optim.name?"),
    ("surprise=9", ""),
  ],
)
def test_a_value_without_its_prefix_gets_a_hint(flag, hint):
  line = processes.refused("train", "--config=configs/shakespeare.py", f"--{flag}")
  name = flag.partition("=")[0]
  assert line == f"Unknown command line flag '{name}'{hint}"
