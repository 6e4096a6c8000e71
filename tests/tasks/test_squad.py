"""Question answering by every verb; transformers' loss; answers by brute force."""

import json
import random

import jax
import numpy as np
import processes
import pytest
import torch
import transformers
import wordpiece
from test_regress import SIZES

import lm
from lm.data import tables
from lm.objectives.span import span
from lm.tasks.squad import Task

COLOURS = ["red", "blue", "green", "grey"]


def questions(total: int, *, none=False, seed=0) -> dict:
  """Returns SQuAD's JSON of texts with one colour, which is the answer, or none."""
  draw, articles = random.Random(seed), []
  for number in range(total):
    words = draw.choices("abcdefgh", k=draw.randrange(5, 60))
    answers = []
    if not none or number % 3:
      place = draw.randrange(len(words))
      words.insert(place, draw.choice(COLOURS))
      start = len(" ".join([*words[:place], ""]))
      answers = [{"text": words[place], "answer_start": start}]
    qas = {"id": f"q{number}", "question": f"which {number} ?", "answers": answers}
    if none:
      qas["is_impossible"] = not answers
    paragraphs = [{"context": " ".join(words), "qas": [qas]}]
    articles.append({"title": f"t{number}", "paragraphs": paragraphs})
  return {"version": "x", "data": articles}


def table(folder, content, name="train.json") -> str:
  (folder / name).write_text(json.dumps(content))
  return f"squad:{folder / name}"


def flags(folder, **values):
  """Returns the flags of a small run; `values` with __ for the dots."""
  changes = [f"model.{x}" for x in (*SIZES, "family=encoder", "heads=2")]
  changes += ["data.tokenizer=words-64", f"data.cache={folder / 'cache'}", "seq=32"]
  changes += ["model.positions=learned", "optim.lr=1e-2", "optim.warmup=5"]
  changes += ["task.stride=12", "num_steps=150", "batch=8", "eval.every=0"]
  changes += [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
  return [
    "--config=configs/tasks/squad.py:squad",
    f"--workdir={folder / 'run'}",
    *(f"--config.{change}" for change in changes),
  ]


def test_it_learns_and_every_verb_reads_the_task(tmp_path):
  run, folder = tmp_path / "run", tmp_path / "hf"
  name = table(tmp_path, questions(300, none=True))
  trained = processes.run("train", *flags(tmp_path, task__train=name))
  assert trained.code == 0, trained.err
  scores = json.loads(processes.run("evaluate", f"--workdir={run}").out)
  assert scores["exact"] > 0.9 and scores["f1"] >= scores["exact"]
  assert scores["best_f1"] >= scores["f1"]
  assert {"has_answer_f1", "no_answer_exact", "f1_95"} <= set(scores)
  text = " ".join("abcdefgh" * 5) + " blue " + " ".join("abcdefgh" * 5)
  for context, answer in ((text, "blue"), ("a b c d e f", "(no answer)")):
    prompt = f"--prompt=which 7 ?\n{context}"
    shown = processes.run("generate", f"--workdir={run}", prompt)
    assert (shown.out, shown.code) == (f"{answer}\n", 0), shown.err
  prompt = json.dumps({"question": "which 7 ?", "context": "a b red c"})
  line = processes.run("generate", f"--workdir={run}", f"--prompt={prompt}").out
  assert line == "red\n"
  line = processes.refused("generate", f"--workdir={run}", "--prompt=which?")
  assert line == "a question or its context is empty; wanted both, one behind another"
  assert processes.run("convert", f"--from={run}", f"--to={folder}").code == 0
  peer = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
  model, params, tokenizer = lm.load(run)
  ids = tokenizer.prompt("which 7 ? a b red c")[None]
  with torch.no_grad():
    outputs = peer.eval()(torch.tensor(ids).long())
  actual, _ = model.apply({"params": params}, ids)
  expected = np.stack([outputs.start_logits, outputs.end_logits], axis=-1)
  np.testing.assert_allclose(actual, expected, atol=1e-4)
  shown = processes.run("generate", f"--workdir={folder}", f"--prompt={prompt}")
  assert shown.out == "red\n"


def test_a_run_is_scored_on_another_file(tmp_path):
  name = table(tmp_path, questions(60))
  options = flags(tmp_path, task__train=name, num_steps=1)
  assert processes.run("train", *options).code == 0
  other = table(tmp_path, questions(9, seed=1), "dev.json")
  scored = processes.run("evaluate", *options, f"--config.task.heldout={other}")
  assert scored.code == 0, scored.err
  scores = json.loads(scored.out)
  assert scores["records"] == 9 and "best_f1" not in scores


def test_an_answer_outside_its_context_is_told_by_its_id(tmp_path):
  content = questions(30)
  answer = content["data"][4]["paragraphs"][0]["qas"][0]["answers"][0]
  answer["answer_start"] += 1
  line = processes.refused(
    "train", *flags(tmp_path, task__train=table(tmp_path, content))
  )
  assert line.startswith(f"record q4 has the answer {answer['text']!r} at ")


@pytest.mark.parametrize(
  "content, message",
  [
    ("{", "train.json is not JSON"),
    ({"a": 1}, "train.json is not in SQuAD's format: 'data'; wanted data, paragraphs"),
    ({"data": [{"paragraphs": [{}]}]}, "is not in SQuAD's format: 'qas'"),
  ],
)
def test_a_file_of_another_kind(content, message, tmp_path):
  file = tmp_path / "train.json"
  file.write_text(content if isinstance(content, str) else json.dumps(content))
  with pytest.raises(ValueError, match=message):
    tables.read(f"squad:{file}", cache=tmp_path)


def test_articles_are_not_split(tmp_path):
  content = questions(60)
  for number, article in enumerate(content["data"]):
    article["title"] = f"t{number % 12}"
  from lm.data import examples

  task = Task(train=table(tmp_path, content))
  splits = examples.read(task, cache=tmp_path)
  titles = [{r["group"] for r in rows} for rows in (splits.train, splits.heldout)]
  assert titles[0] and titles[1] and not titles[0] & titles[1]
  assert len(splits.train) + len(splits.heldout) == 60


def test_loss_and_gradient_are_those_of_transformers(tmp_path):
  hf_model = wordpiece.model(tmp_path, "ForQuestionAnswering", hidden_dropout_prob=0.0)
  model, params, tokenizer = lm.load(tmp_path)
  task = Task(train="").for_model({"types": 2})
  records = [
    {
      "question": "a b",
      "context": "c d e",
      "answers": dict(text=["d"], answer_start=[2]),
    },
    {"question": "f", "context": "g h", "answers": dict(text=[], answer_start=[])},
  ]
  row = task.rows(records, tokenizer, seq=32)[0]
  batch = {f"{key[:-1]}B{key[-1]}": value[None] for key, value in row.items()}

  def loss(params):
    sums = span(model.apply, params, batch, None, train=False)
    return sums["loss"][0] / sums["loss"][1]

  value, gradient = jax.value_and_grad(loss)(params)
  peer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  total = 0.0  # transformers' softmax is over padding, too: one text at a time
  for record, place in zip(records, (5, 0), strict=True):  # [CLS] a b [SEP] c d
    inputs = peer(record["question"], record["context"], return_tensors="pt")
    at = torch.tensor([place])
    total += hf_model(**inputs, start_positions=at, end_positions=at).loss / 2
  total.backward()
  assert float(value) == pytest.approx(total.item(), rel=1e-5)
  np.testing.assert_allclose(
    gradient["classifier"]["w"].T, hf_model.qa_outputs.weight.grad, atol=1e-5
  )


@pytest.mark.parametrize("seed", range(20))
def test_answers_are_the_best_of_all_spans_of_all_windows(seed, tmp_path):
  wordpiece.model(tmp_path, "ForQuestionAnswering")
  model, params, tokenizer = lm.load(tmp_path)
  draw = random.Random(seed)
  texts = [" ".join(draw.choices(["ab", "c", "de"], k=n)) for n in (3, 15, 30)]
  records = [{"question": "a b", "context": text} for text in texts]
  task = Task(train="", stride=9, longest=4, types=True, no_answer=True)
  answers = task.answers(model, params, tokenizer, records, seq=24)
  for record, answer in zip(records, answers, strict=True):
    best, null = (-np.inf, ""), np.inf
    for window in task._windows(record, tokenizer, 24):
      inputs = dict(types_BT=window.types[None])
      logits_BTC, _ = model.apply({"params": params}, window.ids[None], **inputs)
      start_T, end_T = np.asarray(logits_BTC[0], np.float64).T
      null = min(null, start_T[0] + end_T[0])
      for i in np.flatnonzero(window.is_best):
        for j in range(i, min(i + 4, len(window.spans))):
          score = start_T[window.first + i] + end_T[window.first + j]
          text = record["context"][window.spans[i, 0] : window.spans[j, 1]]
          best = max(best, (score, text))
    assert answer["no_answer"] == pytest.approx(null - best[0], abs=1e-4)
    assert answer["candidates"][0]["score"] == pytest.approx(best[0], abs=1e-4)
    assert answer["answer"] == ("" if null > best[0] else best[1])
