"""Prompt tuning: vectors of its own before each text, which no logit is for."""

import json
import random

import jax
import numpy as np
import processes
import pytest
from families import FAMILIES, VOCAB, tokens

import lm
from lm import adapt, trees
from lm.adapt import prompt
from lm.data.tokenizers import prompted, vocabulary
from lm.generate import score, stream
from lm.letters import unbox
from lm.tasks.harness.requests import Answerer

P = 3
WORDLESS = {"word2vec", "glove"}  # they read no text


def adapted(name, first=VOCAB):
  """Returns (model, adapter, own parameters, frozen): its ids begin at `first`."""
  family = FAMILIES[name]
  model, own = family.model(), family.params()
  adapter = adapt.Adapter(prompt.Fitted(length=P, first=first), model)
  leaves = trees.by_path(own)
  return model, adapter, own, {path: leaves[path] for path in adapter.frozen}


# Beyond the table, in its padding, and where it has rows that no token has.
@pytest.mark.parametrize("first", [200, VOCAB, VOCAB - 9])
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - WORDLESS))
def test_a_prompt_is_read_as_rows_of_the_table(name, first):
  """Compares a prompt of the vectors of tokens 4, 5, 6 with these tokens."""
  model, adapter, own, frozen = adapted(name, first)
  rows = np.arange(4, 4 + P)
  params = trees.nested({"embed/table/prompt": own["embed"]["table"][rows]})
  inputs = FAMILIES[name].inputs(2) | {"tokens_BT": tokens(2, 8) % 40}
  key = "source_BS" if model.traits.source else "tokens_BT"
  plain = inputs | {key: inputs[key] % 40}

  def begun(ids):
    return plain | {key: np.concatenate([[ids, ids], plain[key][:, P:]], axis=1)}

  expected = model.apply({"params": own}, **begun(rows))[0]
  for whole in (adapter.joined, adapter.merged):
    ids = first + np.arange(P)
    actual = model.apply({"params": whole(params, frozen)}, **begun(ids))[0]
    np.testing.assert_array_equal(actual, expected)
  assert np.abs(expected - model.apply({"params": own}, **plain)[0]).max() > 1e-4


def test_it_starts_from_vectors_of_different_tokens():
  _, adapter, own, _ = adapted("llama")
  drawn = unbox(adapter.init(jax.random.key(3)))
  started = adapter.started(drawn, trees.by_path(own))["embed"]["table"]["prompt"]
  table = np.asarray(own["embed"]["table"])[:VOCAB]
  same = (np.asarray(started)[:, None] == table[None]).all(-1)
  assert same.sum(1).tolist() == [1] * P and len(set(same.argmax(1))) == P


@pytest.mark.parametrize("first", [200, VOCAB, VOCAB - 9])
def test_as_a_table_it_has_the_vector_of_each_id(first):
  _, adapter, _, frozen = adapted("llama", first)
  vectors = np.arange(P * 32, dtype=np.float32).reshape(P, 32)
  params = trees.nested({"embed/table/prompt": vectors})
  read = adapter.joined(params, frozen)["embed"]["table"]
  ids = np.array([0, 5, first, first + P - 1])
  np.testing.assert_array_equal(np.asarray(read)[ids], read.take(ids))
  np.testing.assert_array_equal(read.take(ids)[2:], vectors[[0, -1]])


def table(folder):
  """Writes texts with a word to be written; returns the table's name."""
  draw, rows = random.Random(0), []
  for number in range(120):
    word = draw.choice(["the", "quick", "lazy", "dog"])
    rows.append(dict(source=f"{word} {number}", target=word, group=number))
  file = folder / "pairs.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{file}"


def flags(folder, name, *changes):
  small = ["model.dtype=float32", "seq=32", "batch=8", "eval.every=2"]
  small += ["task.name=translate", f"task.train={table(folder)}", "task.max_tokens=8"]
  small += ["data.tokenizer=bytes", f"data.cache={folder / 'cache'}"]
  small += [f"init.path={folder / 'base'}", "adapt.name=prompt", "adapt.length=4"]
  small += ["optim.lr=0.3", "optim.warmup=1", "checkpoint.every=2", "eval.score=-loss"]
  small += ["num_steps=6"]
  return [
    "--config=configs/tasks/classify.py",
    f"--workdir={folder / name}",
    *(f"--config.{change}" for change in [*small, *changes]),
  ]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """Returns a folder with the run "base"."""
  folder = tmp_path_factory.mktemp("prompted")
  small = processes.flags(folder / "base", processes.corpus(folder))
  trained = processes.run("train", *small)
  assert trained.code == 0, trained.err
  return folder


def test_every_verb_reads_a_run_of_a_prompt(base):
  run = base / "run"
  trained = processes.run("train", *flags(base, "run"))
  assert trained.code == 0, trained.err
  own = trees.by_path(lm.load(base / "base")[1])
  [line] = [line for line in trained.out.splitlines() if line.startswith("model")]
  D, total = own["embed/table"].shape[1], sum(leaf.size for leaf in own.values())
  assert line.endswith(f": trains {4 * D} beside {total:,} parameters")
  note = json.loads((run / "checkpoints" / "6" / "checkpoint.json").read_text())
  params = [path for path in note["arrays"] if path.startswith("params/")]
  assert params == ["params/embed/table/prompt"]
  losses = [row["eval/loss"] for row in processes.metrics(run) if "eval/loss" in row]
  assert losses[-1] < losses[0]

  killed = processes.start("train", *flags(base, "parts"))
  killed.until((base / "parts" / "checkpoints" / "2").exists).kill()
  assert processes.run("train", *flags(base, "parts")).code == 0
  processes.assert_same_bits(run, base / "parts", 6)

  scored = processes.run("evaluate", f"--workdir={run}")
  assert scored.code == 0, scored.err
  assert json.loads(scored.out)["eval/loss"] == pytest.approx(losses[-1], rel=1e-5)
  answer = processes.run("generate", f"--workdir={run}", "--prompt=dog 7")
  assert answer.code == 0, answer.err
  refused = {
    "convert": [f"--from={run}", f"--to={base / 'hf'}"],
    "train": flags(base, "again", f"init.path={run}", f"data.tokenizer={run}"),
  }
  for verb, parts in refused.items():
    line = processes.refused(verb, *parts)
    assert f"{run} has a soft prompt of 4 tokens, which is no parameter of" in line
  assert not (base / "hf").exists() and not (base / "again").exists()


def prompted_base(base):
  """Returns (model, params, tokenizer, ids): with a prompt of the vectors of `ids`."""
  model, params, tokenizer = lm.load(base / "base")
  table_VD, ids = params["embed"]["table"], np.array([100, 103, 120])
  own = prompt.Prompted(table_VD, table_VD[ids], tokenizer.size)
  own = params | {"embed": params["embed"] | {"table": own}}
  return model, own, prompted.begun(tokenizer, P), ids


def test_a_text_is_continued_behind_its_prompt(base):
  model, own, begun, ids = prompted_base(base)
  _, params, tokenizer = lm.load(base / "base")
  ids = [*ids, *tokenizer.encode("the dog")]
  options = dict(max_tokens=12, temperature=0)
  [expected] = stream.generate(model, params, tokenizer, ids, **options)
  for text in ("the dog", [*vocabulary.front(begun), *ids[P:]]):
    [piece] = stream.generate(model, own, begun, text, **options)
    np.testing.assert_array_equal(piece.ids, expected.ids)
  options = dict(max_tokens=6, beams=3)
  [expected] = stream.search(model, params, tokenizer, ids, **options)
  [piece] = stream.search(model, own, begun, "the dog", **options)
  np.testing.assert_array_equal(piece.ids, expected.ids)
  # A text that slides keeps it: the same as reading its ids again and again.
  size, options = model.config.context, dict(temperature=0)
  pieces = stream.stream(
    model, own, begun, "the dog", max_tokens=size + 9, slides=True, **options
  )
  written = np.concatenate([piece.ids for piece in pieces])
  newest = (size - P) // 2
  read = [*ids[:P], *[*ids, *written][size - newest : size]]
  [expected] = stream.generate(model, params, tokenizer, read, max_tokens=9, **options)
  start = size - len(ids)
  np.testing.assert_array_equal(written[start : start + 9], expected.ids)
  with pytest.raises(ValueError, match="a soft prompt, which is for texts of its own"):
    Answerer(model, own, begun)
  # Of ids that no token has, the one behind the prompt.
  with pytest.raises(ValueError, match="ids must be from 0 to"):
    stream.generate(model, own, begun, [begun.size], max_tokens=1)


def test_each_window_of_a_text_is_scored_behind_its_prompt(base):
  model, own, begun, ids = prompted_base(base)
  _, params, tokenizer = lm.load(base / "base")
  text = "the dog jumps over " * 40
  whole, size, logprob = tokenizer.encode(text), model.config.context - P, 0.0
  starts = range(0, len(whole), size)
  for start in starts:
    end = min(start + size, len(whole))
    window = np.array([[*ids, *whole[max(0, end - 1 - size) : end]]])
    logits = model.apply({"params": params}, window[:, :-1])[0][0]
    nats = jax.nn.log_softmax(logits)[np.arange(window.size - 1), window[0, 1:]]
    logprob += float(nats[-(end - start) :].sum())
  [result] = score.score(model, own, begun, [text])
  assert len(starts) > 2 and result.tokens == len(whole)
  assert result.logprob == pytest.approx(logprob, rel=1e-4)
  # A context too long for a window keeps it, too.
  window = np.array([[*ids, *whole[-(size + 1) :]]])
  logits = model.apply({"params": params}, window[:, :-1])[0][0]
  nats = jax.nn.log_softmax(logits)[np.arange(window.size - 1), window[0, 1:]]
  [result] = score.score(model, own, begun, [(text[:-6], text[-6:])])
  assert result.logprob == pytest.approx(float(nats[-6:].sum()), rel=1e-4)


@pytest.mark.parametrize(
  "changes, message",
  [
    (["adapt.length=0"], "length=0; wanted"),
    (["adapt.length=32"], "adapt.length=32 leaves no room for a text in seq=32; want"),
    (["adapt.size=4"], "the config has no value 'size'"),
    (
      ["objective=distill", "teacher={base}/base"],
      "/base reads the same rows and has none; wanted another objective",
    ),
  ],
)
def test_what_does_not_fit_is_one_line(changes, message, base):
  changes = [change.format(base=base) for change in changes]
  assert message in processes.refused("train", *flags(base, "refused", *changes))
  assert not (base / "refused").exists()


def test_text_without_a_task_is_one_line(base):
  changes = ["adapt.name=prompt", f"init.path={base / 'base'}"]
  parts = processes.flags(base / "refused", processes.corpus(base))
  parts += [f"--config.{change}" for change in changes]
  assert "begins each text of a task" in processes.refused("train", *parts)


def test_a_family_without_a_table_of_tokens_is_one_line():
  options = prompt.Fitted(length=P, first=VOCAB, train=("embed/table",))
  with pytest.raises(ValueError, match="one frozen table of tokens, and the model has"):
    adapt.Adapter(options, FAMILIES["llama"].model())


def test_a_base_without_a_tokenizer_is_one_line():
  with pytest.raises(ValueError, match="needs a tokenizer beside the model of init"):
    prompt.Adaptation(length=P).fitted(None, seq=32, task={"name": "classify"})
