"""The pack of tasks: our runner and stock lm-eval give the same, to the last item."""

import importlib.util
import json
import random
import re

import lm_evals
import numpy as np
import processes
import pytest
from test_harness import BYTES, model_of

from lm.errors import Mistake
from lm.tasks import harness, pack
from lm.tasks.pack import metrics, task_file

MODEL, PARAMS = model_of(BYTES, layers=1, context=96)
FILES = pack.named("")


def agree(files, folder, cache, monkeypatch):
  """Asserts that both runners of these files get the same numbers; returns ours."""
  monkeypatch.setattr(metrics, "TEXT_SAMPLES", 2)  # nobody compares these errors
  ours = pack.run(MODEL, PARAMS, BYTES, files)
  monkeypatch.chdir(folder)  # lm-eval reads paths of data from where it is started
  adapter = harness.adapter(MODEL, PARAMS, BYTES)
  peer = lm_evals.evaluated(adapter, [*ours], cache, include=str(folder))
  for name, result in ours.items():
    expected = {m.split(",")[0]: x for m, x in peer["results"][name].items()}
    for metric, value in result.metrics.items():
      assert value == pytest.approx(expected[metric], rel=1e-9), (name, metric)
    samples = sorted(peer["samples"][name], key=lambda sample: sample["doc_id"])
    for item, sample in zip(result.items, samples, strict=True):
      same_item(item, sample, result.metrics)
  return ours


def same_item(item, sample, names):
  """Asserts that a record has the same requests, answers and values."""
  requests = [r if isinstance(r, tuple) else (r,) for r in item["requests"]]
  assert requests == [*map(tuple, sample["arguments"])]
  for answer, (other,) in zip(item["answers"], sample["resps"], strict=True):
    same = answer == other
    assert same or np.allclose(answer, other, atol=1e-6, rtol=0)
  for name in set(names) - {"bleu", "chrf"}:
    np.testing.assert_allclose(item[name], sample[name], atol=1e-6, rtol=0)


def test_stock_lm_eval_gives_the_same_numbers(tmp_path, monkeypatch):
  results = agree(FILES, pack.DATA, tmp_path, monkeypatch)
  assert len(results) >= 12
  assert all(len(result.items) >= 40 for result in results.values())
  kinds = {file: task_file.read(file).kind for file in FILES}
  assert set(kinds.values()) == {"continuations", "texts", "written"}


# What the pack does not use.
OTHERS = {
  "choices": dict(
    output_type="multiple_choice",
    doc_to_text="{{a}}\n ",
    doc_to_choice="{{[b, 'or ' ~ b|upper, 'naïve 京']}}",
    doc_to_target="{{b}}",
    description="Choose.\n\n",
    target_delimiter=" -",
    metric_list=["acc", "acc_norm", "acc_bytes", "exact_match"],
  ),
  "listed": dict(
    output_type="multiple_choice",
    doc_to_text="a",
    doc_to_choice=["one", "two"],
    doc_to_target="{{n % 2}}",
    metric_list=["acc"],
  ),
  "words": dict(
    output_type="loglikelihood_rolling",
    doc_to_text="",
    doc_to_target="{{a}}  {{a|regex_replace('o', '0')}}\n",
    metric_list=["word_perplexity"],
  ),
  "written": dict(
    output_type="generate_until",
    doc_to_text="{{a}}",
    doc_to_target="{{[a, b]}}",
    generation_kwargs={"max_gen_toks": 9},
    metric_list=["exact_match"],
  ),
  "numbers": dict(
    output_type="generate_until",
    doc_to_text="a",
    doc_to_target="n",
    generation_kwargs={"until": "e", "max_gen_toks": 9},
    filter_list=[
      {
        "name": "first",
        "filter": [
          {"function": "regex", "regex_pattern": "([a-z])|(.)", "group_select": -1},
          {"function": "take_first"},
        ],
      }
    ],
    metric_list=["exact_match"],
  ),
}


def written(folder, name, **changes):
  """Writes a task of OTHERS with its data; returns its file."""
  draw = random.Random(3)
  rows = [
    {"a": " ".join(draw.choices(["one", "two", "東京"], k=3)), "b": f"b{n}", "n": n}
    for n in range(4)
  ]
  lines = "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "rows.jsonl").write_text(lines)
  values = OTHERS[name] | dict(task=name, dataset_path="json", test_split="test")
  values |= dict(dataset_kwargs={"data_files": {"test": "rows.jsonl"}}) | changes
  values["metric_list"] = [
    {"metric": m} if isinstance(m, str) else m for m in values["metric_list"]
  ]
  file = folder / f"{name}.yaml"
  # JSON is YAML.
  file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
  return file


def test_tasks_of_a_user(tmp_path, monkeypatch):
  folder = tmp_path / "tasks"
  folder.mkdir()
  for name in OTHERS:
    written(folder, name)
  results = agree(pack.named(str(folder)), folder, tmp_path / "cache", monkeypatch)
  assert {*results} == {*OTHERS}


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(task=None), "has no 'task'"),
    (dict(doc_to_txt="a"), "'doc_to_txt', which is not read here; did you mean 'doc_"),
    (dict(use_prompt="a"), "'use_prompt', which is not read here; run it by lm-eval"),
    (dict(num_fewshot=2), "num_fewshot; wanted 0, and examples in `description`"),
    (dict(output_type="greedy"), "no output_type 'greedy'; found: multiple_choice"),
    (dict(metric_list=["f1"]), "no metric of multiple_choice 'f1'; found: acc,"),
    (
      dict(metric_list=[{"metric": "acc", "aggregation": "median"}]),
      "the aggregation of acc is mean",
    ),
    (
      dict(metric_list=[{"metric": "acc", "ignore_case": True}]),
      "acc has 'ignore_case'; wanted aggregation, higher_is_better, metric",
    ),
    (dict(filter_list=[{"name": "a", "filter": [{"function": "map"}]}]), "no filter"),
    (dict(filter_list=[{"filter": []}] * 2), "wanted one entry in filter_list, with"),
    (dict(filter_list=["strip"]), "wanted one entry in filter_list, with a list"),
    (dict(filter_list="strip"), "filter_list is 'strip'; wanted a list"),
    (dict(dataset_kwargs="a.jsonl"), "dataset_kwargs is 'a.jsonl'; wanted keys with"),
    (dict(metric_list=[{"name": "acc"}]), "metric_list has .*; wanted metric: NAME"),
    (dict(doc_to_text="{{n / 0}}"), "doc_to_text cannot be rendered: division by zero"),
    (dict(dataset_path="org/name"), "dataset_path is 'org/name'; wanted json"),
    (dict(test_split="dev"), "data_files has no file for the split 'dev'"),
    (dict(dataset_kwargs={"data_files": {"test": "no.jsonl"}}), "no file .*no.jsonl;"),
    (dict(doc_to_text="{{c}}"), "doc_to_text cannot be rendered: 'c' is undefined"),
    (dict(doc_to_text="{{a.__class__.mro()}}"), "doc_to_text cannot be rendered: acce"),
    (dict(doc_to_text="n"), "doc_to_text is 0; wanted a text"),
    (dict(doc_to_choice="{{b}}"), "doc_to_choice is 'b0'; wanted a list of texts"),
    (dict(doc_to_target=3), "doc_to_target is 3; wanted one of 3 choices"),
  ],
)
def test_what_it_refuses(changes, message, tmp_path):
  file = written(tmp_path, "choices", **changes)
  with pytest.raises(Mistake, match=message) as raised:
    pack.run(MODEL, PARAMS, BYTES, [file])
  assert (
    str(file) in str(raised.value)
    or "found: " in str(raised.value)
    or ("no file" in str(raised.value))
  )


def test_the_task_in_the_guide(tmp_path):
  guide = processes.ROOT.joinpath("docs", "evaluate.md").read_text("utf-8")
  [text] = re.findall(r"```yaml\n(.*?)```", guide, re.S)
  (tmp_path / "mine.yaml").write_text(text)
  (tmp_path / "capitals.jsonl").write_text('{"country": "France", "city": "Paris"}\n')
  task = task_file.read(tmp_path / "mine.yaml")
  [[(prompt, options)]] = map(task.requests, task.records)
  assert prompt == "The capital of France is" and options["max_gen_toks"] == 8
  assert task.scores(task.records[0], [" Paris "]) == {"exact_match": 1.0}


def test_code_in_a_task_is_refused(tmp_path):
  (tmp_path / "a.yaml").write_text("task: a\nprocess_docs: !function utils.process\n")
  with pytest.raises(Mistake, match="is no plain YAML: could not determine a constru"):
    task_file.read(tmp_path / "a.yaml")


def test_sacrebleu_is_named_before_anything_is_run(monkeypatch):
  spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda n: None if n == "sacrebleu" else spec(n)
  )
  with pytest.raises(Mistake, match=r"bleu needs sacrebleu; \.venv/bin/python -m pip"):
    pack.select("translate_en_de")
  assert pack.select("science")


def test_two_tasks_of_a_name(tmp_path):
  file = written(tmp_path, "choices")
  with pytest.raises(Mistake, match="several files have task 'choices'; wanted a name"):
    pack.run(MODEL, PARAMS, BYTES, [file, file])
