"""Verb `compare`: models on the same items, in words and as JSON; what is refused."""

import json
import math
import random
import shutil

import numpy as np
import processes
import pytest

import lm
from lm.study import items


def texts(folder, total=300, seed=0):
  """Writes texts whose class is that of one word in them; returns the table's name."""
  draw, lines = random.Random(seed), []
  for number in range(total):
    words = [draw.choice(["good", "bad"]), *draw.choices("abcdef", k=5), str(number)]
    label = "yes" if "good" in words else "no"
    draw.shuffle(words)
    lines.append(json.dumps({"text": " ".join(words), "label": label}))
  file = folder / f"texts{seed}.jsonl"
  file.write_text("\n".join(lines))
  return f"jsonl:{file}"


def train(folder, name, **values):
  """Trains a small LSTM that classifies texts; returns its folder."""
  fields = dict(num_steps=40, seq=32, eval__every=0, optim__lr=1e-2, optim__warmup=5)
  fields |= dict(model__family="rnn", model__width=16, model__layers=1)
  fields |= dict(data__tokenizer="words-64", data__cache=folder / "cache") | values
  run = processes.run(
    "train",
    "--config=configs/tasks/classify.py",
    f"--workdir={folder / name}",
    *(f"--config.{key.replace('__', '.')}={value}" for key, value in fields.items()),
  )
  assert run.code == 0, run.err
  return folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Returns {name: folder}: classifiers, one of them hardly trained, and LMs."""
  folder = tmp_path_factory.mktemp("runs")
  table, corpus = texts(folder), processes.corpus(folder, paragraphs=3_000)
  runs = {
    "good": train(folder, "good", task__train=table),
    "poor": train(folder, "poor", task__train=table, num_steps=1),
    "other": train(folder, "other", task__train=texts(folder, seed=1), num_steps=1),
  }
  for tokenizer in ("bytes", "bpe-300", "words-20"):
    values = dict(data__tokenizer=tokenizer, num_steps=4)
    flags = processes.flags(folder / tokenizer, corpus, **values)
    assert processes.run("train", *flags).code == 0
    runs[tokenizer] = folder / tokenizer
  runs["copy"] = shutil.copytree(runs["good"], folder / "copy")
  return runs


def compared(runs, *names):
  folders = ",".join(str(runs[name]) for name in names)
  result = processes.run("compare", f"--workdirs={folders}", "--format=json")
  assert result.code == 0, result.err
  return json.loads(result.out)


def test_classifiers_are_compared_record_by_record(runs):
  result = compared(runs, "good", "poor", "copy")
  scored = processes.run("evaluate", f"--workdir={runs['poor']}")
  accuracy = json.loads(scored.out)["accuracy"]
  shown = {name: value["accuracy"]["score"] for name, value in result["scores"].items()}
  assert shown[str(runs["poor"])] == accuracy < 0.8 < shown[str(runs["good"])]
  first, same, last = result["comparisons"]
  assert first["verdict"].startswith(f"{runs['good']} is better than {runs['poor']}: +")
  assert first["difference"] == pytest.approx(accuracy - shown[str(runs["good"])])
  low, high = first["interval"]
  assert low < first["difference"] < high < 0 and first["p"] < first["p_corrected"]
  assert (same["p"], same["p_corrected"], same["differing"]) == (1, 1, 0)
  assert f"the same accuracy on each of {result['items']} items, p=1" in same["verdict"]
  assert last["difference"] == -first["difference"] and last["p"] == first["p"]


def test_it_reads_well(runs):
  result = processes.run("compare", f"--workdirs={runs['good']},{runs['copy']}")
  assert result.code == 0
  lines = result.out.splitlines()
  assert lines[0].endswith(
    f" held-out records of jsonl:{runs['good'].parent}/texts0.jsonl"
  )
  assert lines[1].startswith(f"  {runs['good']}  accuracy ")
  assert lines[3].startswith("no difference between ")
  assert "another seed" in lines[-1]


def test_language_models_of_different_tokenizers_read_the_same_text(runs):
  result = compared(runs, "bytes", "bpe-300")
  assert "passages of" in result["of"] and "Passages of one document" in result["note"]
  heldout = items.of(items_experiment(runs["bytes"]), log=lambda line: None)
  for name in ("bytes", "bpe-300"):
    model, params, tokenizer = lm.load(runs[name])
    documents = [record["text"] for record in heldout.records]
    nats = -sum(s.logprob for s in lm.score(model, params, tokenizer, documents))
    size = sum(len(text.encode()) for text in documents)
    score = result["scores"][str(runs[name])]["bits_per_byte"]["score"]
    assert score == pytest.approx(nats / math.log(2) / size, rel=1e-5)
  [comparison] = result["comparisons"]
  values = [v["bits_per_byte"]["score"] for v in result["scores"].values()]
  better = list(result["scores"])[int(np.argmin(values))]
  assert comparison["verdict"].startswith(f"{better} is better than ")


def items_experiment(folder):
  from lm.stores.run import RunFolder
  from lm.train.config import Experiment

  return Experiment.of(RunFolder(folder).config())


@pytest.mark.parametrize("names, message", [
  (["good"], "wanted two models or more, each once"),
  (["good", "good"], "wanted two models or more, each once"),
  (["good", "other"], "other has other held-out items than "),
  (["good", "bytes"], "bytes has other held-out items than "),
  (["bytes", "words-20"], "words-20 cannot be compared: its tokenizer does not keep"),
])  # fmt: skip
def test_what_cannot_be_compared_is_one_line(names, message, runs):
  folders = ",".join(str(runs[name]) for name in names)
  assert message in processes.refused("compare", f"--workdirs={folders}")


def test_a_config_names_the_data(runs, tmp_path):
  config = ["--config=configs/tasks/classify.py", f"--config.data.cache={tmp_path}"]
  config += [f"--config.task.train={texts(tmp_path, seed=2)}", "--config.seq=32"]
  config += ["--config.model.family=rnn"]
  folders = f"--workdirs={runs['good']},{runs['other']}"
  result = processes.run("compare", folders, *config)
  assert result.code == 0, result.err
  assert "texts2.jsonl" in result.out and "good is better than " in result.out
  line = processes.refused(
    "compare", f"--workdirs={runs['good']},{runs['bytes']}", *config
  )
  assert "its output head is 'tokens'; the task wants 'classes'" in line
  file = tmp_path / "texts2.jsonl"
  file.write_text(file.read_text().replace('"yes"', '"maybe"'))
  line = processes.refused("compare", folders, *config)
  message = "good cannot be compared: it has the classes no, yes; wanted those of the"
  assert f"{message} task, maybe, no" in line
