"""A task of lm-eval in a YAML file, and the records that it names.

Read are these keys, with lm-eval's meaning; any other is refused by name:

  task            its name in the results
  output_type     multiple_choice, loglikelihood, loglikelihood_rolling, generate_until
  dataset_path    json, with dataset_kwargs: {data_files: {test: FILE.jsonl}}: a file in
                  the folder of the YAML file; test_split names the split
  doc_to_text     the prompt; a column's name, or a template in Jinja with the columns
  doc_to_target   the answer: a column or a template; of a multiple choice, its number
  doc_to_choice   the answers to choose from: a column, a list, or a template of a list
  description     a text before every prompt
  target_delimiter  between a prompt and a choice; a space by default
  generation_kwargs  until, max_gen_toks, and the settings of a sampler
  filter_list     one list of filters: regex, remove_whitespace, take_first
  metric_list     see metrics.py

and `tag`, `num_fewshot: 0` and `metadata`, which change nothing here. Templates run in
Jinja's sandbox.
"""

import ast
import dataclasses
import functools
import importlib.util
import re
from pathlib import Path

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lm.data import tables
from lm.errors import Mistake, one_of, suggestion
from lm.tasks.pack import metrics

KINDS = {
  "multiple_choice": "continuations",
  "loglikelihood": "continuations",
  "loglikelihood_rolling": "texts",
  "generate_until": "written",
}  # the method of an Answerer for each output_type
REQUIRED = ("task", "output_type", "dataset_path", "dataset_kwargs", "test_split")
REQUIRED += ("doc_to_text", "doc_to_target", "metric_list")
OPTIONAL = ("doc_to_choice", "description", "target_delimiter", "generation_kwargs")
OPTIONAL += ("filter_list", "tag", "num_fewshot", "metadata")
TYPES = {"task": str, "output_type": str, "target_delimiter": str, "test_split": str}
TYPES |= {"dataset_kwargs": dict, "generation_kwargs": dict}
TYPES |= {"metric_list": list, "filter_list": list}
WORDS = {str: "a text", dict: "keys with values", list: "a list"}
UNTIL = "\n\n"  # ends a continuation whose task names no other end


@dataclasses.dataclass(frozen=True)
class TaskFile:
  """The content of a task's YAML file, and its records."""

  path: Path
  values: dict
  records: list[dict]

  @property
  def name(self) -> str:
    """The task's name in the results."""
    return self.values["task"]

  @property
  def kind(self) -> str:
    """The method of an Answerer that answers its requests."""
    return KINDS[self.values["output_type"]]

  @property
  def metrics(self) -> list[str]:
    """The names of its metrics."""
    return [metric["metric"] for metric in self.values["metric_list"]]

  def requests(self, record: dict) -> list:
    """Returns what an Answerer is asked for a record, one request or several."""
    prompt = self._text("description", record) + self._text("doc_to_text", record)
    match self.values["output_type"]:
      case "multiple_choice":
        delimiter = self.values.get("target_delimiter", " ")
        return [(prompt, delimiter + choice) for choice in self._choices(record)]
      case "loglikelihood":
        return [(prompt, self._text("doc_to_target", record))]
      case "loglikelihood_rolling":
        return [self._text("doc_to_target", record)]
    options = {"until": [UNTIL]} | self.values.get("generation_kwargs", {})
    return [(prompt, options)]

  def scores(self, record: dict, answers: list) -> dict:
    """Returns {metric: value of the record}, of the answers to its requests."""
    match self.values["output_type"]:
      case "multiple_choice":
        choices = self._choices(record)
        values = metrics.of_choices(choices, self._gold(record, choices), answers)
      case "loglikelihood":
        values = metrics.of_continuation(*answers[0])
      case "loglikelihood_rolling":
        values = metrics.of_text(self._text("doc_to_target", record), answers[0])
      case "generate_until":
        text, reference = self._filtered(answers[0]), self._reference(record)
        values = metrics.of_writing(reference, text, self._exact())
    return {name: values[name] for name in self.metrics}

  def _value(self, key: str, record: dict):
    """Returns a column's value, a rendered template, or what is no string, as it is."""
    value = self.values.get(key, "")
    if not isinstance(value, str):
      return value
    if value in record:
      return record[value]
    try:
      return _template(value).render(**record)
    except Exception as error:  # whatever it is, the template caused it
      raise Mistake(f"{self.path}: {key} cannot be rendered: {error}") from error

  def _text(self, key: str, record: dict) -> str:
    value = self._value(key, record)
    if not isinstance(value, str):
      raise Mistake(f"{self.path}: {key} is {value!r}; wanted a text")
    return value

  def _choices(self, record: dict) -> list[str]:
    """Returns the answers to choose from, two or more."""
    value = self._value("doc_to_choice", record)
    choices = _literal(value) if isinstance(value, str) else value
    is_list = isinstance(choices, list) and len(choices) > 1
    if not is_list or not all(isinstance(c, str) and c for c in choices):
      raise Mistake(f"{self.path}: doc_to_choice is {value!r}; wanted a list of texts")
    return choices

  def _gold(self, record: dict, choices: list[str]) -> int:
    """Returns the number of the right choice, which may be given as a text."""
    value = self._value("doc_to_target", record)
    if isinstance(value, str) and value.isdigit():
      value = int(value)
    gold = choices.index(value) if value in choices else value
    if type(gold) is not int or not 0 <= gold < len(choices):
      raise Mistake(
        f"{self.path}: doc_to_target is {value!r}; wanted one of {len(choices)} choices"
      )
    return gold

  def _reference(self, record: dict):
    """Returns a text that is wanted, or a list of those."""
    value = self._value("doc_to_target", record)
    if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]":
      value = _literal(value)
    return [*map(str, value)] if isinstance(value, list) else str(value)

  def _exact(self) -> dict:
    """Returns the arguments of the metric exact_match."""
    for metric in self.values["metric_list"]:
      if metric["metric"] == "exact_match":
        return {key: metric[key] for key in metrics.EXACT if key in metric}
    return {}

  def _filtered(self, text: str) -> str:
    """Returns a written text as the filters leave it."""
    for step in _filters(self.values):
      text = FILTERS[step["function"]](text, **_without(step, "function"))
    return text


def read(path) -> TaskFile:
  """Returns the task in a YAML file.

  Raises Mistake for a file that cannot be read, for a key or value that is not read
  here, for a metric whose package is missing, and for data that do not exist.
  """
  path = Path(path)
  try:
    values = yaml.safe_load(path.read_text("utf-8"))
  except yaml.YAMLError as error:
    raise Mistake(f"{path} is no plain YAML: {error}") from error
  if not isinstance(values, dict):
    raise Mistake(f"{path} holds no keys; wanted {', '.join(REQUIRED)}")
  for key in values:
    if key not in REQUIRED + OPTIONAL:
      close = suggestion(str(key), REQUIRED + OPTIONAL)
      raise Mistake(
        f"{path} has {key!r}, which is not read here; {close or 'run it by lm-eval'}"
      )
  if missing := [key for key in REQUIRED if key not in values]:
    raise Mistake(f"{path} has no {missing[0]!r}")
  for key, kind in TYPES.items():
    if not isinstance(values.get(key, kind()), kind):
      raise Mistake(f"{path}: {key} is {values[key]!r}; wanted {WORDS[kind]}")
  one_of("output_type", values["output_type"], KINDS)
  if values.get("num_fewshot"):
    raise Mistake(f"{path} has num_fewshot; wanted 0, and examples in `description`")
  _check_metrics(path, values)
  _check_filters(path, values)
  return TaskFile(path, values, _records(path, values))


def _check_metrics(path, values: dict):
  """Raises Mistake for a metric that the task's output has not."""
  kind = values["output_type"]
  for metric in values["metric_list"]:
    if not isinstance(metric, dict) or "metric" not in metric:
      raise Mistake(f"{path}: metric_list has {metric!r}; wanted metric: NAME")
    name = one_of(f"metric of {kind}", metric["metric"], metrics.METRICS[kind])
    wanted = metrics.aggregation(name)
    if metric.get("aggregation", wanted) != wanted:
      raise Mistake(f"{path}: the aggregation of {name} is {wanted}")
    known = {"metric", "aggregation", "higher_is_better"}
    known |= set(metrics.EXACT) if name == "exact_match" else set()
    if unknown := sorted(set(metric) - known):
      raise Mistake(
        f"{path}: {name} has {unknown[0]!r}; wanted {', '.join(sorted(known))}"
      )
    if name in ("bleu", "chrf") and importlib.util.find_spec("sacrebleu") is None:
      raise Mistake(
        f"{path}: {name} needs sacrebleu; .venv/bin/python -m pip install sacrebleu"
      )


def _check_filters(path, values: dict):
  """Raises Mistake for filters that there are not, and for several lists of them."""
  lists = values.get("filter_list", [{"filter": []}])
  if len(lists) != 1 or not isinstance(lists[0], dict) or "filter" not in lists[0]:
    raise Mistake(f"{path}: wanted one entry in filter_list, with a list `filter`")
  for step in _filters(values):
    one_of("filter", step.get("function"), FILTERS)


def _records(path: Path, values: dict) -> list[dict]:
  """Returns the records of the split that is named, each with all columns."""
  if values["dataset_path"] != "json":
    raise Mistake(
      f"{path}: dataset_path is {values['dataset_path']!r}; wanted json, whose files "
      "are here"
    )
  files = values["dataset_kwargs"].get("data_files")
  files = files if isinstance(files, dict) else {"train": files}
  file = files.get(values["test_split"])
  if not isinstance(file, str):
    raise Mistake(
      f"{path}: data_files has no file for the split {values['test_split']!r}"
    )
  records = tables.read(f"jsonl:{path.parent / file}", cache=None)["train"]
  columns = dict.fromkeys(key for record in records for key in record)
  return [dict.fromkeys(columns) | record for record in records]


@functools.cache
def _template(source: str):
  """Returns a template in Jinja's sandbox, with the settings of lm-eval's."""
  environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True
  )
  environment.filters["regex_replace"] = _replaced
  return environment.from_string(source)


def _replaced(text: str, pattern: str, replacement: str, count: int = 0) -> str:
  return re.sub(pattern, replacement, text, count=count)


def _literal(text: str):
  """Returns the Python literal in a text, or the text when there is none."""
  try:
    return ast.literal_eval(text)
  except (SyntaxError, ValueError):
    return text


def _filters(values: dict) -> list[dict]:
  return values.get("filter_list", [{"filter": []}])[0]["filter"]


def _without(values: dict, key: str) -> dict:
  return {name: value for name, value in values.items() if name != key}


def _matched(
  text: str, regex_pattern: str, group_select: int = 0, fallback="[invalid]"
) -> str:
  """Returns a match of a pattern, or of the first group in it that has one."""
  matches = re.findall(regex_pattern, text)
  if not matches:
    return fallback
  match = matches[group_select]
  groups = [match] if isinstance(match, str) else [group for group in match if group]
  return groups[0].strip() if groups else fallback


FILTERS = {
  "regex": _matched,
  "remove_whitespace": lambda text: text.strip(),
  "take_first": lambda text: text,
}
