"""Verb `report` of one run, and `evaluate --tasks=checks`: what a person looks at."""

import json
import re

import processes
import pytest
from pages import Reader
from test_compare_verb import texts, train
from test_where_it_goes import plant

from experiments import scored
from lm import stores
from lm.study import checks, class_sections, items

EVIL = "<script>alert('good')</script>"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
  """Returns the folder of an encoder; a text that it holds out is a script."""
  folder = tmp_path_factory.mktemp("classes")
  texts(folder)
  file = folder / "texts0.jsonl"
  records = [json.loads(line) for line in file.read_text().splitlines()]
  for number, record in enumerate(records):
    record["writer"] = "he" if number % 3 else "she"
    record["text"] += f" says {record['writer']}"
  heldout = folder / "heldout.jsonl"
  evil = {"text": EVIL, "label": "no", "writer": "she"}
  heldout.write_text("\n".join(map(json.dumps, [*records[:60], evil])))
  file.write_text("\n".join(map(json.dumps, records[60:])))
  model = dict(model__family="encoder", model__positions="rotary", model__pooler=True)
  tables = dict(task__train=f"jsonl:{file}", task__heldout=f"jsonl:{heldout}")
  return train(folder, "run", **model, **tables, model__heads=2)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("texts")
  flags = processes.flags(folder / "run", processes.corpus(folder, paragraphs=900))
  assert processes.run("train", *flags).code == 0
  return folder / "run"


def page_of(run, folder):
  done = processes.run("report", f"--workdirs={run}", f"--out={folder}/page")
  assert (done.code, done.err) == (0, "")
  assert f"{folder}/page.html" in done.out and (folder / "page.md").exists()
  text = (folder / "page.html").read_text()
  reader = Reader(text)
  assert "script" not in reader.names
  assert all(link.startswith("data:image/png;base64,") for link in reader.links)
  assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)\w+:", text)
  return text, reader


def test_the_page_of_a_classifier(classifier, tmp_path):
  text, reader = page_of(classifier, tmp_path)
  sections = re.findall("<h2>(.*?)</h2>", text)
  assert [name.split(" of ")[0] for name in sections] == [
    "Curves", "The last evaluation", "Scores", "Confusion matrix", "Reliability",
    sections[5].split(" of ")[0], "Attributions", "Attention", "Checks", "Config",
  ]  # fmt: skip
  assert sections[5].startswith("Worst")
  words = " ".join(reader.texts)
  assert (
    f"launch.sh train --config=configs/tasks/classify.py --workdir={classifier}"
    in words
  )
  assert re.search(r"Expected calibration error 0\.\d+, of 15 bins", words)
  gaps = re.findall(r"that goes from (\S+) to (\S+): (\S+) is missing", words)
  assert gaps
  for baseline, output, gap in (map(float, row) for row in gaps):
    assert abs(gap) <= 0.02 * abs(output - baseline) + 0.002
  assert text.count("<figure>") == 2  # layer 1, two heads


def test_a_script_in_a_record_is_text(classifier, monkeypatch):
  """Its answer is made a wrong one, and is shown among those."""
  monkeypatch.setattr(class_sections, "WORST", 100)
  model, params, tokenizer = stores.load(classifier)
  experiment = scored.trained(classifier)
  heldout = items.of(experiment)
  subject = checks.Subject(model, params, tokenizer, experiment, heldout)
  place = [record["text"] for record in heldout.records].index(EVIL)
  wrong = "yes" if subject.answers[place]["label"] == "no" else "no"
  heldout.records[place]["label"] = wrong
  subject = checks.Subject(model, params, tokenizer, experiment, heldout)
  shown = class_sections.worst(subject)
  assert "&lt;script&gt;alert(&#x27;good&#x27;)&lt;/script&gt;" in shown
  assert "<script" not in shown


def test_the_page_of_a_language_model(decoder, tmp_path):
  text, reader = page_of(decoder, tmp_path)
  sections = re.findall("<h2>(.*?)</h2>", text)
  assert sections == [
    "Curves", "The last evaluation", "Scores", "Worst texts", "Best texts",
    "The worst text, token by token", "One of the middle, token by token",
    "Attention", "Checks", "Config",
  ]  # fmt: skip
  losses = [float(x) for x in re.findall(r'title="(\d+\.\d\d) nats"', text)]
  assert len(losses) > 100 and 0 < min(losses) < max(losses) < 12
  assert "memorisation" in reader.texts


def test_checks_are_one_table_and_json(classifier, decoder):
  names = "--tasks=checks,fairness:writer"
  done = processes.run("evaluate", f"--workdir={classifier}", names)
  assert done.code == 0, done.err
  values = json.loads(done.out)
  for name in (
    "calibration/as_it_is/ECE_of_15_bins",
    "fairness/writer_she/accuracy_95",
    "fairness/writer/equalised_odds_gap",
    "fairness/gender_exchanged/flips",
    "robustness/typing_errors/accuracy_lost_95",
  ):
    assert name in values
  assert "| robustness | longer | flips |" in done.err
  assert values["fairness/gender_exchanged/flips"] <= 1
  count = re.search(r"\| fairness \| writer she \| accuracy \|.*\| (\d+) \|", done.err)
  assert count[1] == "21"  # 20 of the first 60, and the script
  done = processes.run("evaluate", f"--workdir={decoder}", "--tasks=checks")
  assert done.code == 0, done.err
  assert "memorisation/training_text/32_tokens_word_for_word" in json.loads(done.out)


CHECK = '''
"""The share of answers with a class."""

from lm.study.checks import Row

KIND = "classes"


def check(subject, argument):
  share = (subject.chance_RC.argmax(1) == subject.labels.index(argument)).mean()
  return [Row("share", argument, "answers", float(share), None, len(subject.answers))]
'''


def test_a_new_file_is_a_check(classifier, tmp_path, monkeypatch):
  plant(monkeypatch, tmp_path / "new", "lm.study.checks", "share", CHECK)
  model, params, tokenizer = stores.load(classifier)
  experiment = scored.trained(classifier)
  heldout = items.of(experiment)
  subject = checks.Subject(model, params, tokenizer, experiment, heldout)
  assert checks.is_name("share:yes") and "share" in checks.names("classes")
  modules = checks.resolved(["share:yes"], subject)
  [row] = checks.run(modules, subject)
  labels = [answer["label"] for answer in subject.answers]
  assert row.value == labels.count("yes") / len(labels) and row.count == 61
  assert checks.values([row]) == {"share/yes/answers": row.value}
  assert checks.table([row]).endswith(
    f"| share | yes | answers | {row.value:.3f} |  | 61 |"
  )


def test_a_check_for_another_model_is_one_line(classifier, decoder):
  line = processes.refused("evaluate", f"--workdir={decoder}", "--tasks=robustness")
  assert line == "the check 'robustness' is for a classifier of texts"
  flags = (f"--workdir={classifier}", "--tasks=memorisation")
  line = processes.refused("evaluate", *flags)
  assert line == "the check 'memorisation' is for a model of next tokens"
  flags = (f"--workdir={classifier}", "--tasks=fairness:age")
  done = processes.run("evaluate", *flags)
  assert done.code == 2 and "has no column 'age'; found: 'text', 'label'" in done.err
