"""Documents agree with the code: commands parse, links and paths exist."""

import pathlib
import re
import shlex
import subprocess

import jax
import numpy as np
import processes
import pytest

import lm
from lm.data.tokenizers import byte_tokenizer
from lm.letters import unbox

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [
  "README.md",
  "README.zh-CN.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "docs/*.md",
]
# Words in capitals, and <name>, are placeholders for the reader's own names.
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b|<\w+>")
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Paths look like `lm/train.py`, `lm/nn/`, `decoder.py` or `.ci/run`.
PATH = re.compile(r"[\w<>.*-]+(/[\w<>.*-]+)*/?")
FOLDERS = ("lm", "experiments", "configs", "tests", "benchmarks", "docs", ".ci")
ENDS = (".py", ".md", ".sh", ".txt", ".toml", ".ipynb", ".png")


def documents():
  return {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for pattern in DOCUMENTS
    for path in sorted(ROOT.glob(pattern))
  }


def commands(text: str):
  """Returns every `./launch.sh ...` of a document as a list of words."""
  blocks = FENCED.findall(text)
  lines = [line for b in blocks for line in b.replace("\\\n", " ").splitlines()]
  lines += INLINE.findall(FENCED.sub("", text))
  for line in lines:
    for part in re.split(r"&&|\|", line):
      _, launcher, command = part.partition("./launch.sh ")
      if launcher:
        yield shlex.split(command, comments=True)


def split(command):
  """Returns (flags of launch.sh, verb, flags of the verb); verb "" if there is none."""
  verbs = [i for i, word in enumerate(command) if not word.startswith("--")]
  if not verbs:
    return command, "", []
  first = verbs[0]
  return command[:first], command[first], command[first + 1 :]


def path_of(name: str) -> bool:
  """Returns True if a text in backticks is the path of a file or a folder."""
  if not PATH.fullmatch(name):
    return False
  return name.split("/")[0] in FOLDERS or name.endswith(ENDS)


def exists(name: str) -> bool:
  """Returns True if a path exists; a bare file name may be in any folder."""
  pattern = PLACEHOLDER.sub("*", name)
  if "/" in pattern.rstrip("/"):
    return any(ROOT.glob(pattern.rstrip("/")))
  return ROOT.joinpath(pattern).exists() or any(
    path for folder in FOLDERS for path in ROOT.joinpath(folder).rglob(pattern)
  )


def faults(text: str, folder: pathlib.Path):
  """Yields the links and paths of a document in `folder` that do not exist."""
  for target in LINK.findall(text):
    target = target.partition("#")[0]
    if target and "://" not in target and not (folder / target).exists():
      yield f"links to {target}"
  for name in INLINE.findall(FENCED.sub("", text)):
    # <name> is a file to be written, in an existing folder.
    target = str(pathlib.PurePosixPath(name).parent) if "<" in name else name
    if path_of(name) and not exists(target):
      yield f"names {name}"


def test_links_and_paths_exist():
  missing = [
    f"{name} {fault}"
    for name, text in documents().items()
    for fault in faults(text, (ROOT / name).parent)
  ]
  assert not missing, "\n".join(missing)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """Returns the folder of a tiny model."""
  folder, tokenizer = tmp_path_factory.mktemp("model") / "run", byte_tokenizer()
  model = lm.model("rnn", vocab=tokenizer.size, width=16, layers=1)
  params = unbox(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
  lm.save(folder, model, params, tokenizer)
  return folder


def filled(flag: str, model="") -> str:
  """Returns a flag with an existing config in place of a placeholder.

  A path of a model to start from, which the reader has, becomes `model`.
  """
  name, equals, value = flag.partition("=")
  if name == "--config.init.path":
    return f"{name}={model}"
  if name == "--config" and PLACEHOLDER.search(value):
    first = min(ROOT.glob(PLACEHOLDER.sub("*", value)), default=value)
    return f"{name}={first}"
  return PLACEHOLDER.sub("2", flag) if equals else flag


def test_commands_parse(model):
  """Checks verbs, flags, config files and the values that flags change in them."""
  shown = [(name, c) for name, text in documents().items() for c in commands(text)]
  assert len(shown) > 10
  wrong, parsed = [], {}
  for name, command in shown:
    flags, verb, rest = split(command)
    title = f"{name}: ./launch.sh {' '.join(command)}"
    if verb == "VERB" or verb == "test":
      continue
    dry = ["bash", "launch.sh", "--dry-run", *map(filled, flags), verb]
    run = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
      wrong.append(f"{title}: {run.stderr.strip()}")
    elif "..." not in rest:
      parsed[title] = (verb, *(filled(flag, model) for flag in rest))
  answers = processes.problems(tuple(parsed.values()))
  wrong += [f"{title}: {p}" for title, p in zip(parsed, answers, strict=True) if p]
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
  "text, fault",
  [
    ("[guide](guide.md)", "links to guide.md"),
    ("[guide](https://example.org/guide.md#x)", ""),
    ("[tests](../tests#laws)", ""),
    ("`lm/nothing.py`", "names lm/nothing.py"),
    ("`lm/nothing/<name>.py`", "names lm/nothing/<name>.py"),
    ("`lm/models/<name>.py` and `lm/models/`", ""),
    ("`nothing.py` ", "names nothing.py"),
    ("`decoder.py`, `configs/family/NAME.py`, `x.y`, `runs/a`, `float32`", ""),
    ("```\n`lm/nothing.py`\n```\n", ""),
  ],
)
def test_a_planted_fault_is_seen(text, fault):
  assert list(faults(text, ROOT / "docs")) == [fault] * bool(fault)


def test_commands_are_found_wherever_they_stand():
  text = """
Run `./launch.sh train
--config=a.py --x` or:
```
./launch.sh generate --prompt="To be"   # a comment
cd there && ./launch.sh test --quick | tail
./launch.sh train \\
  --config=b.py
```
`./launch.sh --tpu=NAME --zone=Z train ...`
"""
  assert list(commands(text)) == [
    ["generate", "--prompt=To be"],
    ["test", "--quick"],
    ["train", "--config=b.py"],
    ["train", "--config=a.py", "--x"],
    ["--tpu=NAME", "--zone=Z", "train", "..."],
  ]


def test_a_wrong_flag_and_a_wrong_value_are_seen():
  good = "--config=configs/shakespeare.py"
  config = "--config=configs/none.py"
  answers = processes.problems(
    (
      ("train", good, "--config.optim.lr=1e-3"),
      ("train", good, "--config.optim.lrr=1"),
      ("train", config),
      ("generate", "--workdir=x", "--nothing=1"),
    )
  )
  assert answers[0] == ""
  assert "lrr" in answers[1]
  assert "configs/none.py" in answers[2]
  assert "nothing" in answers[3]
