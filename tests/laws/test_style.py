"""Limits and bans of the code that a machine can check."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("lm", "experiments", "configs", "benchmarks", "tests")
FILE_LINES, FUNCTION_LINES, CONFIG_LINES, POSITIONAL, FIELDS = 300, 60, 60, 6, 12
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Removed or deprecated names of jax and flax, with their replacements.
GONE = {
  "jax.pmap": "jax.jit with shardings",
  "jax.tree_map": "jax.tree.map",
  "jax.random.PRNGKey": "jax.random.key",
  "jax.experimental.pjit": "jax.jit",
  "jax.experimental.shard_map": "jax.shard_map",
  "jax.experimental.maps": "jax.shard_map",
  "jax.interpreters": "jax.extend",
  "jax.core": "jax.extend.core",
  "jax._src": "what is public",
  "flax.training.checkpoints": "lm.checkpoint",
  "flax.jax_utils": "jax.jit with shardings",
}
# Verbs and pronouns, which do not say what a value is, with a noun for each.
VAGUE = {
  "told": "message or fields",
  "found": "result or matches",
  "said": "output or messages",
  "asked": "request",
  "theirs": "expected or hf_model",
}


def faults(path: str, text: str):
  """Yields "line: fault" for each rule that a file breaks."""
  limit = CONFIG_LINES if path.startswith("configs/") else FILE_LINES
  if text.count("\n") > limit:
    yield f"{text.count(chr(10))} lines, over {limit}"
  for node in ast.walk(ast.parse(text)):
    for fault in (*_faults(path, node), *_name_faults(path, node)):
      yield f"{node.lineno}: {fault}"


def _faults(path, node):
  match node:
    case ast.FunctionDef() | ast.AsyncFunctionDef():
      yield from _function_faults(node)
    case ast.ClassDef(name="Config"):
      count = sum(isinstance(inner, ast.AnnAssign) for inner in node.body)
      if count > FIELDS:
        yield f"Config has {count} fields, over {FIELDS}"
    case ast.Import() | ast.ImportFrom():
      yield from _import_faults(node)
    case ast.Attribute():
      name = ast.unparse(node)
      if name in GONE:
        yield f"{name} is gone or going; use {GONE[name]}"
    case ast.Try() if any(
      isinstance(inner, ast.Import | ast.ImportFrom) for inner in node.body
    ):
      yield "try around an import; requirements.txt names what there is"
    case ast.ExceptHandler() if all(isinstance(s, ast.Pass) for s in node.body):
      yield "a swallowed exception; contextlib.suppress says which and why it may be"
    case ast.Call() if path.startswith("tests/") and _is_sleep(node):
      yield "a sleep in a test; wait for the event itself"
    case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
      yield "allow_pickle: data would be run as code"


def _name_faults(path, node):
  match node:
    case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
      pass
    case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
      pass
    case _:
      return
  if name.strip("_") in VAGUE:
    yield f"{name} does not say what it is; call it {VAGUE[name.strip('_')]}"


def _function_faults(node):
  length = node.end_lineno - node.lineno + 1
  if length > FUNCTION_LINES:
    yield f"{node.name} has {length} lines, over {FUNCTION_LINES}"
  args = [a.arg for a in node.args.posonlyargs + node.args.args]
  args = [a for a in args if a not in ("self", "cls")]
  # pytest passes the arguments of tests by name.
  if len(args) > POSITIONAL and not node.name.startswith("test_"):
    yield f"{node.name} takes {len(args)} positional arguments, over {POSITIONAL}"


def _import_faults(node):
  names = [alias.name for alias in node.names]
  if isinstance(node, ast.ImportFrom):
    names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
  tops = {name.split(".")[0] for name in names}
  yield from (f"imports {top}: data would be run as code" for top in tops & PICKLES)
  for name in names:
    if name in GONE:
      yield f"{name} is gone or going; use {GONE[name]}"


def _is_sleep(node):
  return ast.unparse(node.func) in ("time.sleep", "sleep", "asyncio.sleep")


def files():
  for folder in FOLDERS:
    for path in sorted(ROOT.joinpath(folder).rglob("*.py")):
      yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def test_every_file_keeps_the_limits():
  lines = [f"{path}:{line}" for path, text in files() for line in faults(path, text)]
  assert not lines, "\n".join(lines)


@pytest.mark.parametrize("path, text, fault", [
  ("lm/a.py", "x = 1\n" * 301, "301 lines, over 300"),
  ("configs/a.py", "x = 1\n" * 61, "61 lines, over 60"),
  ("lm/a.py", "def f():\n" + "  x = 1\n" * 60, "1: f has 61 lines"),
  ("lm/a.py", "def f(a, b, c, d, e, g, h): return", "1: f takes 7 positional"),
  ("lm/a.py", "class Config:\n" + "  a: int\n" * 13, "1: Config has 13 fields, over"),
  ("lm/a.py", "import pickle", "1: imports pickle"),
  ("lm/a.py", "from cloudpickle import dumps", "1: imports cloudpickle"),
  ("lm/a.py", "np.load(x, allow_pickle=True)", "1: allow_pickle"),
  ("lm/a.py", "try:\n  import a\nexcept ImportError:\n  a = None", "1: try around"),
  ("lm/a.py", "try:\n  f()\nexcept OSError:\n  pass", "3: a swallowed exception"),
  ("lm/a.py", "key = jax.random.PRNGKey(0)", "1: jax.random.PRNGKey is gone"),
  ("lm/a.py", "from jax.experimental import pjit", "1: jax.experimental.pjit is gone"),
  ("tests/a.py", "time.sleep(1)", "1: a sleep in a test"),
  ("lm/a.py", "told = f()", "1: told does not say what it is"),
  ("lm/a.py", "self._asked += 1", "1: _asked does not say"),
  ("lm/a.py", "def f(theirs): return", "1: theirs does not say"),
  ("lm/a.py", "def found(): return", "1: found does not say"),
])  # fmt: skip
def test_a_planted_fault_is_seen(path, text, fault):
  lines = list(faults(path, text))
  assert len(lines) == 1
  assert lines[0].startswith(fault)


def test_good_code_passes():
  text = "class A:\n  def f(self, a, b, c, d, e, g, *, h): return jax.random.key(0)\n"
  assert not list(faults("lm/a.py", text))
