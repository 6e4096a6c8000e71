"""Mistakes of runs: a one-line error, exit code 2, nothing lost or half made."""

import re
import shutil
import subprocess

import processes
import pytest


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
  """Returns the folder of a run of four steps, saved after steps 2 and 4."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  result = processes.run("train", *processes.flags(folder, text, **FOUR))
  assert result.code == 0, result.err
  return folder


FOUR = dict(num_steps=4, checkpoint__every=2, optim__schedule="constant")


def files(folder):
  return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# In the data


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is empty; wanted some text"),
    (b"\n \n\n", "cannot be divided"),
    (b"a\nb\n", "has 2 tokens; wanted at least 17 for rows of 16"),
    ("caf\xe9\n".encode("latin1") * 99, "is not UTF-8: byte 0xe9 at offset 3"),
  ],
  ids=["empty", "blank", "short", "latin1"],
)
def test_a_corpus_that_is_none(content, message, tmp_path):
  path = tmp_path / "text.txt"
  path.write_bytes(content)
  assert message in processes.refused("train", *processes.flags(tmp_path / "run", path))
  assert not files(tmp_path / "run")


# In the folder


def test_a_folder_of_another_config_is_left_alone(trained, text):
  before = files(trained)
  line = processes.refused(
    "train", *processes.flags(trained, text, **FOUR, optim__lr=0.5)
  )
  assert "belongs to a run of another config (optim.lr: 0." in line
  assert " then, 0.5 now)" in line
  assert files(trained) == before


def test_a_mistake_is_named_before_the_folder(trained, text):
  values = FOUR | dict(model__width=17)
  line = processes.refused("train", *processes.flags(trained, text, **values))
  assert line.startswith("heads=2 does not divide width=17; ")


def test_data_that_changed_under_a_run_are_noticed(trained, tmp_path):
  folder, other_text = tmp_path / "run", processes.corpus(tmp_path, seed=1)
  path = tmp_path / "mine.txt"
  shutil.copy(processes.corpus(tmp_path), path)
  values = FOUR | dict(num_steps=2)
  assert processes.run("train", *processes.flags(folder, path, **values)).code == 0
  shutil.copy(other_text, path)
  path.write_text(path.read_text().replace("fox", "cat"))
  before = files(folder)
  line = processes.refused("train", *processes.flags(folder, path, **FOUR))
  assert "has changed since" in line
  assert files(folder) == before


def test_a_start_from_another_model_is_noticed_before_data_are_prepared(
  trained, text, tmp_path
):
  values = dict(init__path=trained, model__width=32, data__cache=tmp_path / "cache")
  line = processes.refused("train", *processes.flags(tmp_path / "run", text, **values))
  assert f"{trained} has another model than the config: width is 16, not 32" in line
  assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


def test_a_start_from_another_tokenizer(trained, text, tmp_path):
  """Uses a tokenizer of the same padded size, so that all shapes fit."""
  values = dict(init__path=trained, data__tokenizer="bpe-300")
  line = processes.refused("train", *processes.flags(tmp_path / "run", text, **values))
  assert "another tokenizer than data.tokenizer=bpe-300" in line
  assert line.endswith(f": --config.data.tokenizer={trained}/tokenizer")
  values["data__tokenizer"] = trained / "tokenizer"
  result = processes.run("train", *processes.flags(tmp_path / "run", text, **values))
  assert result.code == 0, result.err


@pytest.mark.parametrize("verb", ["evaluate", "generate"])
def test_a_folder_that_is_no_run(verb, tmp_path):
  line = processes.refused(verb, f"--workdir={tmp_path}")
  assert "is not a run's folder: it has no config.json" in line


def test_a_step_that_was_not_saved(trained):
  line = processes.refused("evaluate", f"--workdir={trained}", "--step=3")
  assert "no checkpoint 3 in" in line and "found: 2, 4" in line


@pytest.fixture
def disk(tmp_path):
  """Yields mount(*options) of a tmpfs; skips where mount is refused."""
  folder = tmp_path / "disk"
  folder.mkdir()

  def mount(*options):
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
      pytest.skip(f"cannot mount: {result.stderr.strip()}")
    return folder

  if shutil.which("mount") is None:
    pytest.skip("no mount command")
  yield mount
  subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def test_a_disk_that_fills_up_while_saving(disk, text, trained):
  """Keeps earlier checkpoints, and resumes from them when there is room."""
  folder = disk("size=1m") / "run"
  values = FOUR | dict(checkpoint__every=1, checkpoint__keep=9, num_steps=40)
  full = processes.run("train", *processes.flags(folder, text, **values))
  assert full.code == 2
  [line] = [line for line in full.err.splitlines() if line.startswith("error: ")]
  assert "could not save step" in line and "No space left on device" in line
  assert "Traceback" not in full.err
  saved = [int(path.name) for path in (folder / "checkpoints").iterdir()]
  assert saved, "room for one at least"
  disk("remount", "size=9m")
  resumed = processes.run(
    "train", *processes.flags(folder, text, **values | dict(num_steps=9))
  )
  assert resumed.code == 0 and f"continues after step {max(saved)}" in resumed.out
  assert [row["step"] for row in processes.metrics(folder)] == [*range(1, 10), 9]


def test_a_folder_that_cannot_be_written(disk, text, trained):
  folder = disk("size=1m")
  disk("remount", "ro")
  line = processes.refused("train", *processes.flags(folder / "run", text))
  assert line == (
    f"cannot write in {folder}/run: Read-only file system; choose a folder that can be "
    "written"
  )


def test_a_bug_keeps_its_traceback(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text)
  result = processes.run("train", *flags, spy=("bug_in_the_loader", None))
  assert result.code == 1 and "Traceback" in result.err
  assert result.err.endswith(
    "ValueError: zip() argument 2 is shorter than argument 1\n"
  )


def test_a_mistake_shows_its_traceback_on_request(tmp_path):
  flags = (f"--workdir={tmp_path}", "--prompt=a")
  result = processes.run("generate", *flags, env={"LM_TRACEBACK": "1"})
  assert result.code == 1 and result.err.startswith("Traceback")
  assert "is not a run's folder" in result.err.splitlines()[-1]


def test_a_loss_that_is_not_finite_ends_the_run_after_the_last_good_step(
  trained, text, tmp_path
):
  folder = tmp_path / "run"
  flags = processes.flags(folder, text, **FOUR)
  for _ in range(2):  # a resumed run meets it again
    ended = processes.run("train", *flags, spy=("poison", 4))
    assert ended.code == 2
    [line] = [x for x in ended.err.splitlines() if not x.startswith("step ")]
    assert line.startswith(
      "error: train/loss is nan at step 4; the checkpoint of step 2"
    )
    assert f"--config.init.path={folder}" in line
    assert [row["step"] for row in processes.metrics(folder)] == [1, 2, 3]
  assert processes.run("train", *flags).code == 0  # without the spy
  processes.assert_same_bits(folder, trained, 4)


def test_a_learning_rate_that_is_too_high_saves_nothing_worthless(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, **FOUR, optim__lr=1e30)
  line = processes.refused("train", *flags)
  assert re.match(r"train/\w+ is (nan|inf) at step 1; nothing was saved yet", line)
  assert not (tmp_path / "run" / "checkpoints").exists()
