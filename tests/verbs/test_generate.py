"""The verb generate: prompts from flags, files and lines, and its formats."""

import json

import processes
import pytest

import lm

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
GREEDY = ("--temperature=0", "--max_tokens=5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A run of two steps, saved after each."""
  folder = tmp_path_factory.mktemp("trained")
  text = processes.corpus(folder)
  flags = processes.flags(folder / "run", text, checkpoint__every=1)
  assert processes.run("train", *flags).code == 0
  return folder / "run"


@pytest.fixture
def chat(trained):
  """The same run with a chat template."""
  file = trained / "tokenizer" / "tokenizer_config.json"
  before = file.read_text()
  file.write_text(json.dumps(json.loads(before) | {"chat_template": TEMPLATE}))
  yield trained
  file.write_text(before)


def generate(folder, *flags, lines=None):
  spy = None if lines is None else ("read_from", str(lines))
  result = processes.start("generate", f"--workdir={folder}", *flags, spy=spy).wait()
  assert result.code == 0, result.err
  return result


def written(folder, prompt, **options):
  """Returns what the library continues a prompt with."""
  model, params, tokenizer = lm.load(folder)
  options = dict(temperature=0, max_tokens=5) | options
  return lm.generate(model, params, tokenizer, prompt, **options)


def test_json_has_a_line_a_text(trained):
  flags = ("--prompt=the", "--format=json", "--n=2", "--seed=3", "--max_tokens=5")
  rows = [json.loads(line) for line in generate(trained, *flags).out.splitlines()]
  rows.sort(key=lambda row: row["index"])
  expected = written(trained, "the", n=2, seed=3, temperature=0.8)
  assert [row["text"] for row in rows] == expected
  assert all(row["finish_reason"] in ("length", "stop") for row in rows)
  assert all(len(row["ids"]) <= 5 for row in rows)


def test_a_prompt_from_a_file(trained, tmp_path):
  (tmp_path / "prompt.txt").write_text("the quick\nbrown\n")
  flag = f"--prompt_file={tmp_path / 'prompt.txt'}"
  [text] = written(trained, "the quick\nbrown")
  assert generate(trained, flag, *GREEDY).out == f"the quick\nbrown{text}\n"
  both = processes.refused("generate", f"--workdir={trained}", flag, "--prompt=a")
  assert both == "--prompt and --prompt_file are both given; leave out one"


def test_settings_are_those_of_the_library(trained):
  options = dict(seed=1, max_tokens=30, min_p=0.01, repetition_penalty=1.3)
  [whole] = written(trained, "the", temperature=0.8, **options)
  flags = [f"--{name}={value}" for name, value in options.items()]
  assert generate(trained, "--prompt=the", *flags).out == f"the{whole}\n"
  stop = whole[3:5]
  result = generate(trained, "--prompt=the", *flags, f"--stop={stop}", "--stop=\n\n")
  assert result.out == f"the{whole.partition(stop)[0]}\n"


def test_a_step_of_the_run(trained):
  model, params, tokenizer = lm.load(trained, step=1)
  [text] = lm.generate(model, params, tokenizer, "the", temperature=0, max_tokens=5)
  assert generate(trained, "--prompt=the", "--step=1", *GREEDY).out == f"the{text}\n"
  assert "3" in processes.refused(
    "generate", f"--workdir={trained}", "--prompt=a", "--step=3"
  )


def test_every_line_is_a_prompt(trained, tmp_path):
  (tmp_path / "lines").write_text("the quick\n\nbrown fox\n")
  [first], [second] = written(trained, "the quick"), written(trained, "brown fox")
  result = generate(trained, *GREEDY, lines=tmp_path / "lines")
  assert result.out == f"the quick{first}\nbrown fox{second}\n"


def test_no_prompt_at_all(trained):
  line = "nothing to continue; give --prompt, --prompt_file or lines of input"
  assert processes.refused("generate", f"--workdir={trained}") == line


def test_a_chat_model_keeps_the_conversation(chat, tmp_path):
  (tmp_path / "lines").write_text("hi\nyo\n")
  [first] = written(chat, "<user>hi")
  [second] = written(chat, f"<user>hi<assistant>{first}<user>yo")
  result = generate(chat, *GREEDY, lines=tmp_path / "lines")
  assert result.out == f"{first}\n{second}\n"


def test_a_long_conversation_loses_its_oldest_turns(chat, tmp_path):
  words = ["one" * 5, "two" * 5]
  (tmp_path / "lines").write_text("\n".join(words))
  result = generate(chat, *GREEDY, lines=tmp_path / "lines")
  [text] = written(chat, f"<user>{words[1]}")
  assert result.out.splitlines()[-1] == text
  assert "the 2 oldest messages are left out" in result.err


def test_a_text_longer_than_the_context(trained):
  result = generate(trained, "--prompt=the", "--max_tokens=90", "--temperature=0")
  [text] = written(trained, "the", max_tokens=90, slides=True)
  assert result.out == f"the{text}\n"
  assert result.err.startswith("beyond the context of 64 tokens its newest half is")


def test_beams_take_no_settings_of_sampling(trained):
  flags = (f"--workdir={trained}", "--prompt=a", "--beam=2", "--min_p=0.1")
  assert processes.refused("generate", *flags).startswith("--beam searches for the")
