"""evaluate --tasks=NAME:PART: tasks of the pack, of a file, and of stock lm-eval."""

import json

import lm_evals
import processes
import pytest
from test_harness import BYTES
from test_pack import MODEL, PARAMS, written

import lm
from lm.errors import Mistake
from lm.tasks import harness, pack


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Returns the folder of a model that was not trained by `train`."""
  path = tmp_path_factory.mktemp("saved") / "run"
  lm.save(path, MODEL, PARAMS, BYTES)
  return path


def test_evaluate_runs_a_task_of_the_pack_and_a_file(run, tmp_path):
  file = written(tmp_path, "words")
  tasks = f"--tasks=pack:agreement,pack:{file}"
  result = processes.run("evaluate", f"--workdir={run}", tasks)
  assert result.code == 0, result.err
  values = json.loads(result.out)
  names = ["pack_agreement/acc", "pack_agreement/acc_stderr", "pack_agreement/items"]
  names += [f"words/{name}" for name in ("word_perplexity", "word_perplexity_stderr")]
  assert [*values] == [*names, "words/items"]
  expected = pack.run(MODEL, PARAMS, BYTES, [pack.DATA / "agreement.yaml"])
  assert values[names[0]] == expected["pack_agreement"].metrics["acc"]
  assert values["pack_agreement/items"] == 72 and values["words/items"] == 4


@pytest.mark.parametrize(
  "tasks, message",
  [
    (
      "pack:arithmetics",
      "no task 'arithmetics' in the pack, and no YAML file or folder",
    ),
    ("pack:none/a.yaml", "no task 'none/a.yaml' in the pack"),
    ("classify", "nothing to evaluate for --tasks=classify; wanted a task of its"),
    (
      "similarity:a",
      "nothing to evaluate for --tasks=similarity:a; wanted --tasks=simi",
    ),
    ("harness", "nothing to evaluate for --tasks=harness; wanted --tasks=harness:..."),
    ("packs", "no 'packs' in lm/tasks; did you mean 'pack'?"),
  ],
)
def test_a_wrong_name_is_one_line(tasks, message, run):
  line = processes.refused("evaluate", f"--workdir={run}", f"--tasks={tasks}")
  assert message in line


def test_a_task_of_stock_lm_eval(tmp_path, monkeypatch):
  """As `--tasks=harness:NAME` runs it, with the pack in place of lm-eval's own."""
  options = dict(include_path=str(pack.DATA), include_defaults=False)
  manager = lm_evals.TaskManager(**options)
  monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda: manager)
  monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
  monkeypatch.chdir(pack.DATA)
  with pytest.raises(
    Mistake, match="lm-eval has no task 'pack_agreements'; did you me"
  ):
    harness.select("pack_agreements")
  values = harness.select("pack_agreement")(MODEL, PARAMS, BYTES, cache=None)
  ours = pack.select("agreement")(MODEL, PARAMS, BYTES, cache=None)
  assert values["pack_agreement/acc"] == ours["pack_agreement/acc"]
  assert values["pack_agreement/acc_stderr"] == pytest.approx(
    ours["pack_agreement/acc_stderr"]
  )
