"""The pack of tasks: our runner and stock lm-eval give the same, to the last item."""

import importlib.util
import json
import random
import re
import string

import lm_evals
import numpy as np
import processes
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api import metrics as expected_metrics
from lm_eval.filters.extraction import RegexFilter
from test_harness import BYTES, model_of

import lm
from lm.errors import Mistake
from lm.tasks import harness, pack
from lm.tasks.pack import generated, metrics, task_file

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


TEXTS = st.text(st.sampled_from("aB1,. é"), max_size=4)
EXACT = st.fixed_dictionaries(
  {},
  optional=dict(
    regexes_to_ignore=st.lists(
      st.sampled_from(["a", r"[1,]", " +"]), min_size=1, max_size=2
    ),
    ignore_case=st.booleans(),
    ignore_punctuation=st.booleans(),
    ignore_numbers=st.booleans(),
  ),
)


@given(text=TEXTS, references=st.lists(TEXTS, min_size=1, max_size=3), exact=EXACT)
def test_exact_match(text, references, exact):
  same = expected_metrics.exact_match_hf_evaluate(
    [text] * len(references), references, **exact
  )["exact_match"]
  actual = metrics.of_writing(references, text, exact)["exact_match"]
  assert actual == float(same > 0)


@given(
  text=st.text("ab1 ", max_size=8),
  pattern=st.sampled_from([r"a+", r"(a)(b)?", r"(1)|(b)", r"b (.*)"]),
  group=st.sampled_from([0, -1]),
)
def test_the_regex_filter(text, pattern, group):
  options = dict(regex_pattern=pattern, group_select=group)
  [[expected]] = RegexFilter(**options).apply([[text]], [{}])
  assert task_file.FILTERS["regex"](text, **options) == expected


def test_standard_errors(monkeypatch):
  monkeypatch.setenv("DISABLE_MULTIPROC", "1")
  rng = np.random.default_rng(1)
  shares = (rng.random(50) < 0.3).astype(float).tolist()
  assert metrics.error("mean", shares) == pytest.approx(
    expected_metrics.mean_stderr(shares)
  )
  logprobs = rng.normal(-3, 1, 60).tolist()
  expected = expected_metrics.bootstrap_stderr(
    expected_metrics.perplexity, logprobs, iters=4000
  )
  assert metrics.error("perplexity", logprobs) == pytest.approx(expected, rel=0.15)
  assert np.isnan(metrics.error("mean", [1.0]))


def test_the_generated_records_are_those_of_their_seed():
  for name, text in generated.files().items():
    assert (pack.DATA / name).read_text("utf-8") == text, name


def test_records_are_sound():
  sizes = [path.stat().st_size for path in pack.DATA.iterdir()]
  assert sum(sizes) < 400_000
  for file in FILES:
    task = task_file.read(file)
    assert task.name == f"pack_{file.stem}"
    requests = [repr(task.requests(record)) for record in task.records]
    assert len(set(requests)) == len(requests), file
    for record in task.records:
      choices = record.get("choices", "ab")
      assert len(set(choices)) == len(choices)
      for text in [v for v in record.values() if isinstance(v, str)]:
        assert text == text.strip() and text


def test_answers_do_not_stand_in_their_questions():
  """What a model could copy from the prompt would not be measured."""
  for name in ("questions", "science"):
    for record in task_file.read(pack.DATA / f"{name}.yaml").records:
      if name == "questions":
        plain = (
          record["question"]
          .lower()
          .translate(str.maketrans("", "", string.punctuation))
        )
        assert record["answers"][0].lower() not in plain.split()
      else:
        assert record["choices"][record["answer"]] not in record["question"]
  for record in task_file.read(pack.DATA / "arithmetic.yaml").records:
    a, sign, b = record["question"].split()
    result = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
    assert str(result) == record["answer"]
  for record in task_file.read(pack.DATA / "last_word.yaml").records:
    assert record["word"] in record["text"]


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
