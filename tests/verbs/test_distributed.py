"""Two processes of one run: losses of one process, separate rows, a common stop."""

import processes
import pytest

STEPS = 8
WHO = ("JAX_COORDINATOR_ADDRESS=localhost:1", "JAX_NUM_PROCESSES=2")
VALUES = dict(
  optim__schedule="constant",  # a longer run begins as a shorter one
  num_steps=STEPS,
  eval__every=4,
  eval__sample_tokens=4,  # skipped by several processes
  checkpoint__every=4,
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
  """Returns the folder of a run on the same two devices, in one process."""
  folder = tmp_path_factory.mktemp("alone") / "run"
  values = VALUES | dict(eval__sample_tokens=0)
  flags = processes.flags(folder, text, **values)
  result = processes.run("train", *flags, devices=2)
  assert result.code == 0, result.err
  return folder


def ended(pair, code=0):
  """Waits for both processes, which must exit with `code`; returns the pair."""
  try:
    for process in pair:
      process.wait()
      assert process.code == code, process.err
  finally:
    for process in pair:
      process.kill()
  return pair


def losses(folder):
  names = ("train/loss", "eval/nats_per_token")
  rows = processes.metrics(folder)
  return {(r["step"], name): r[name] for r in rows for name in names if name in r}


def reached(folder) -> int:
  path = folder / "metrics.jsonl"
  return path.read_bytes().count(b"\n") if path.exists() else 0


def rows_read(path):
  return [int(line) for line in path.read_text().split()]


def test_two_processes_train_as_one_and_read_only_their_rows(alone, text, tmp_path):
  folder = tmp_path / "run"
  notes = [tmp_path / "rows0", tmp_path / "rows1"]
  spies = [("note_rows", str(path)) for path in notes]
  # An empty cache: both processes start with nothing prepared.
  flags = processes.flags(folder, text, **VALUES, data__cache=tmp_path / "cache")
  first, second = ended(processes.pair("train", *flags, devices=1, spies=spies))
  actual, expected = losses(folder), losses(alone)
  assert actual.keys() == expected.keys() and len(actual) == STEPS + 2
  assert list(actual.values()) == pytest.approx(list(expected.values()), rel=1e-6)
  # Of 8 rows a step, the first process has the devices of the first four.
  for half, path in enumerate(notes):
    places = [row % 8 for row in rows_read(path)]
    assert set(places) == set(range(4 * half, 4 * half + 4))
    assert len(places) == len(set(rows_read(path))) == 4 * STEPS
  # Only the first process logs and writes files.
  assert "results: " in first.out
  assert all(line.startswith("[Gloo]") for line in second.out.splitlines())
  assert not (folder / "samples.txt").exists()


def test_a_folder_that_the_processes_do_not_share(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, **VALUES)
  spies = (None, ("work_elsewhere", str(tmp_path / "elsewhere")))
  pair = processes.pair("train", *flags, devices=1, spies=spies)
  try:
    assert [process.wait().code for process in pair] == [2, 2]
  finally:
    for process in pair:
      process.kill()
  assert f"{tmp_path}/run is not the same folder on all machines" in pair[0].err
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("env", "message"),
  [
    (["LM_DISTRIBUTED=1"], "LM_DISTRIBUTED is set, but here is no SLURM job and"),
    (["JAX_COORDINATOR_ADDRESS=a:1"], "JAX_NUM_PROCESSES is not set; JAX_COORDINATOR"),
    (["JAX_PROCESS_ID=0"], "JAX_COORDINATOR_ADDRESS is not set; JAX_COORDINATOR_ADDRE"),
    ([*WHO, "JAX_PROCESS_ID=a"], "JAX_PROCESS_ID=a; wanted a number"),
    ([*WHO, "JAX_PROCESS_ID=2"], "JAX_PROCESS_ID=2; wanted less than JAX_NUM_PR"),
  ],
)
def test_a_mistake_in_who_is_who(env, message, text, tmp_path):
  flags = processes.flags(tmp_path / "run", text)
  env = dict(assignment.split("=") for assignment in env)
  assert message in processes.refused("train", *flags, env=env)


def test_one_is_signalled_both_stop_and_both_go_on(text, tmp_path):
  folder, endless = tmp_path / "run", VALUES | dict(num_steps=100_000, eval__every=0)
  flags = processes.flags(folder, text, **endless)
  stopped = 0
  for _ in range(2):
    pair = processes.pair("train", *flags, devices=1)
    far = lambda goal=stopped + 10: reached(folder) > goal
    try:
      pair[0].until(far)
      pair[1].signal()
      ended(pair, code=143)
    finally:
      for process in pair:
        process.kill()
    steps = sorted(int(p.name) for p in (folder / "checkpoints").iterdir())
    assert steps[-1] > stopped
    assert f"stopped after step {steps[-1]}, saved" in pair[0].out
    assert not stopped or f"continues after step {stopped} of" in pair[0].out
    assert "saving, then stopping" in pair[1].err
    stopped = steps[-1]
  trained = [r["step"] for r in processes.metrics(folder) if "train/loss" in r]
  assert trained == list(range(1, stopped + 1))
