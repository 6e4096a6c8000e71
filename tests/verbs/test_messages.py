"""What verbs print for people: what is trained, what it came to, what comes next."""

import shlex
import subprocess

import jax
import numpy as np
import processes
import pytest

import lm
from experiments import commands
from lm import log, models, stores
from lm.data import tokenizers
from lm.data.rows import corrupt
from lm.letters import unbox
from lm.train import summary

LAUNCHER = str(processes.ROOT / "launch.sh")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def odd(text, tmp_path_factory):
  """Returns (a folder with an odd name, the output of a run in it)."""
  folder = tmp_path_factory.mktemp("odd") / "it's a $HOME \u00e9 run"
  values = dict(optim__warmup=30, mesh__fsdp=2, mesh__data=1)
  run = processes.run("train", *processes.flags(folder, text, **values), devices=2)
  assert run.code == 0, run.err
  return folder, run.out


def rows(output) -> dict:
  """Returns {name: text} of the lines at the start of a run."""
  names = ("model", "updates", "data", "devices", "metrics", "warm-up")
  lines = [line.split(maxsplit=1) for line in output.splitlines() if line]
  return {line[0]: line[1] for line in lines if line[0] in names}


def test_train_says_what_it_trains(odd, text):
  folder, output = odd
  shown = rows(output)
  count = sum(x.size for x in jax.tree.leaves(lm.load(folder)[1]))
  assert shown["model"].startswith(
    "decoder, preset llama-tiny but context=64, width=16"
  )
  assert "qk_norm='head'" in shown["model"] and "scan" not in shown["model"]
  assert shown["model"].endswith(f": {count:,} parameters")
  assert shown["updates"] == (
    "next_token, muon at 0.03 (linear, warm-up 30): 2 steps of 8 x 16 = 128 tokens"
  )
  assert shown["warm-up"] == "takes all 2 steps; optim.warmup=30 is more"
  assert f"text:{text} in bytes: " in shown["data"]
  assert "; held out " in shown["data"] and " epochs)" in shown["data"]
  assert shown["devices"].startswith("2 cpu (fsdp=2), bfloat16 matmuls, state of ")
  assert shown["metrics"] == str(folder / "metrics.jsonl")
  [board] = [x.strip() for x in output.splitlines() if "tensorboard " in x]
  assert shlex.split(board) == ["tensorboard", f"--logdir={folder}"]
  assert any((folder / "tensorboard").iterdir())


def test_the_next_commands_can_be_pasted_from_any_folder(odd, tmp_path):
  folder, output = odd
  lines = [x[6:] for x in output.splitlines() if x.startswith("next: ")]
  words = [shlex.split(line) for line in lines]
  assert [w[:2] for w in words] == [[LAUNCHER, "generate"], [LAUNCHER, "evaluate"]]
  for line in lines:  # by a shell, in another folder
    shown = subprocess.run(
      ["bash", "-c", f"printf '%s\\n' {line}"], cwd=tmp_path, capture_output=True
    )
    assert shown.stdout.decode().splitlines()[2] == f"--workdir={folder}"


def test_relative_paths_are_those_of_the_callers_folder(odd, tmp_path):
  env = {"LM_CALLER": str(tmp_path)}
  line = processes.refused("evaluate", "--workdir=mine", env=env)
  assert line.startswith("mine is not a run's folder: there is nothing")
  (tmp_path / "mine").symlink_to(odd[0])
  result = processes.run("report", "--workdirs=mine", "--out=r", env=env)
  assert result.code == 0, result.err
  assert (tmp_path / "r.md").exists()


def small(folder, family, special=(), **fields):
  """Saves a model with a byte tokenizer and these special tokens; opens it."""
  tokenizer = tokenizers.byte_tokenizer().extended(list(special))
  fields = dict(width=16, context=16) | fields
  model = models.build(family, vocab=tokenizer.size, **fields)
  tokens_BT = np.zeros((1, 8), np.int32)
  inputs = {"source_BS": tokens_BT} if model.traits.source else {}
  params = model.init(jax.random.key(0), tokens_BT, **inputs)["params"]
  lm.save(folder, model, unbox(params), tokenizer)
  return stores.open(folder)


TWO = dict(layers=1, heads=2)


@pytest.mark.parametrize(
  ("family", "special", "fields", "prompt"),
  [
    ("decoder", (), TWO, "To be"),
    ("rnn", (), dict(layers=1), "To be"),
    ("encoder", (corrupt.MASK,), TWO, "To be [MASK]"),
    ("encoder", (corrupt.ROBERTA_MASK,), TWO, "To be <mask>"),
    ("encoder", (), TWO, None),
    ("encoder", (corrupt.MASK,), TWO | dict(head="none"), None),
    ("encdec", ("<extra_id_0>",), TWO, "To be <extra_id_0>"),
    ("encdec", (), TWO, "To be"),
    ("word2vec", (), {}, None),
  ],
)
def test_a_prompt_suits_the_model(family, special, fields, prompt, tmp_path):
  command = commands.generate(small(tmp_path, family, special, **fields), "To be")
  if prompt is None:
    assert command == ""
  else:
    assert shlex.split(command)[-1] == f"--prompt={prompt}"


def test_shakespeares_prompt_is_for_his_text(odd):
  folder = stores.RunFolder(odd[0])
  for source, prompt in (("shakespeare", "To be, or"), ("sotu", "")):
    lines = commands.after_training(folder, (source,)).splitlines()
    assert shlex.split(lines[-2])[-1] == f"--prompt={prompt}"


def test_a_longer_run_says_that_its_schedule_is_another_one(text, tmp_path):
  folder = tmp_path / "run"
  values = dict(optim__schedule="linear", optim__final=0.1, optim__lr=0.02)
  for num_steps in (2, 4):
    flags = processes.flags(folder, text, **values, num_steps=num_steps)
    result = processes.run("train", *flags)
    assert result.code == 0, result.err
  assert (
    "the schedule is another one with num_steps=4, 2 until now: after step 2 the "
    "learning rate goes from 0.02 to 0.014\n"
  ) in result.out


class Heldout:
  """A dataset whose held-out text has two tokens, equally often."""

  def counts(self, split):
    assert split == "heldout"
    return np.array([7, 7, 0])


@pytest.mark.parametrize(
  ("losses", "heldout", "lines"),
  [
    ([5, 4, 3], 0.5, []),
    ([5, 4, 6], 0.5, ["note: the training loss rose, from 5 to 6; try a lower"]),
    ([5, 4, 3], 0.7, ["note: 0.7 nats per held-out token, and guessing by frequency"]),
    ([3], 0.7, ["note: 0.7 nats per held-out token, and guessing by frequency takes"]),
    # A tenth of the steps at either end, or noise would decide.
    ([1, 9, *[4] * 16, 4, 5], 0.5, []),
    ([5, 4, 3], None, []),
  ],
)
def test_a_run_that_learnt_nothing_says_so(losses, heldout, lines, tmp_path):
  with log.Log(tmp_path) as run:
    for step, loss in enumerate(losses, start=1):
      run.write(step, {"train/loss": loss})
    if heldout is not None:
      run.write(len(losses), {"eval/nats_per_token": heldout})
  verdict = summary.verdict(tmp_path / "metrics.jsonl", Heldout())
  assert len(verdict) == len(lines)
  assert all(a.startswith(b) for a, b in zip(verdict, lines, strict=True))


def test_the_verdict_is_printed_at_the_end(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text)
  result = processes.run("train", *flags)
  before, _, after = result.out.partition("note: ")
  assert "held out " in before and after.split("\n")[1].startswith("results: ")
  assert "nats per held-out token, and guessing by frequency takes 3." in after


def test_a_head_that_is_missing_is_noticed_before_data(text, tmp_path):
  small(tmp_path / "bert", "encoder", (corrupt.MASK,), **TWO, head="none")
  cache = tmp_path / "cache"
  flags = processes.flags(tmp_path / "bert", text, data__cache=cache)
  flags[0] = "--config=tests/shrink.py:family/bert"
  line = processes.refused("evaluate", *flags)
  assert "this encoder has head='none', pooler=False; wanted head='tokens'" in line
  assert not cache.exists()
