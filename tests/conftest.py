"""The environment of every test: 8 virtual CPU devices, no network, loud warnings."""

import difflib
import fnmatch
import gc
import ipaddress
import os
import pathlib
import socket

os.environ.update(
  JAX_PLATFORMS="cpu",  # the equalities are stated for CPU, also on a machine with GPUs
  HF_HUB_OFFLINE="1",
  TOKENIZERS_PARALLELISM="false",  # its threads and our forks do not mix
  MPLBACKEND="Agg",
)
ROOT = pathlib.Path(__file__).resolve().parent.parent
# Set in the environment, so that programs which tests start share them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# Most of the time of a test with tiny shapes is the compiler's, and an equality between
# two ways to compute does not depend on how well LLVM optimises either. The gradient of
# a two-layer decoder: 3.9 s of CPU time become 0.5 s (1.9 s with jax 0.12).
FLAGS = ["--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 11):  # later ones have no such flag
  FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline: the first example pays for the compilation, and the machine may be busy.
hypothesis.settings.register_profile(
  "lm",
  deadline=None,
  derandomize="CI" in os.environ,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("lm")


def pytest_collection_finish(session):
  """Exempts the objects that all tests share from garbage collection: saves 10%."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 50)


GOLDEN = pathlib.Path(__file__).parent / "golden"

# The tests of --quick, by node ids: the laws of the tree, one model's equalities and
# the rooms whose tests compile little: 135 s of CPU time, measured 2026-11-29.
QUICK = (
  "tests/data/clean/*",
  "tests/data/rows/*",
  "tests/data/sources/*",
  "tests/data/tokenizers/*",
  "tests/disk/*",
  "tests/generate/test_chat.py",
  "tests/generate/test_sample.py",
  "tests/laws/test_conftest.py",
  "tests/laws/test_docs.py",
  "tests/laws/test_equalities.py::*llama*",
  "tests/laws/test_project.py",
  "tests/laws/test_rungs.py",
  "tests/laws/test_style.py",
  "tests/log/*",
  "tests/nn/test_linear.py",
  "tests/nn/test_masks.py",
  "tests/objectives/*",
  "tests/optim/*",
  "tests/study/test_curves.py",
  "tests/study/test_html.py",
  "tests/study/test_report.py",
  "tests/test_letters.py",
  "tests/test_metrics.py",
  "tests/test_platform.py",
  "tests/verbs/test_configs.py::test_it_builds*",
  "tests/verbs/test_launch.py",
  "tests/verbs/test_launch_anywhere.py",
)


def is_quick(node: str) -> bool:
  """Returns True if --quick runs the test with this id, or any test of the file."""
  patterns = QUICK if "::" in node else [p.partition("::")[0] for p in QUICK]
  return any(fnmatch.fnmatchcase(node, f"{p}*") for p in patterns)


def pytest_addoption(parser):
  parser.addoption(
    "--renew", action="store_true", help="write tests/golden/*.txt as the code has it"
  )
  parser.addoption(
    "--quick", action="store_true", help="run what takes less than 2 minutes"
  )


def pytest_ignore_collect(collection_path, config):
  """Leaves files without a quick test unimported under --quick."""
  if config.getoption("--quick") and collection_path.suffix == ".py":
    return not is_quick(str(collection_path.relative_to(ROOT))) or None
  return None


def pytest_collection_modifyitems(config, items):
  if config.getoption("--quick"):
    slow = [item for item in items if not is_quick(item.nodeid)]
    items[:] = [item for item in items if is_quick(item.nodeid)]
    config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="module", autouse=True)
def mappings():
  """Frees what was compiled before the kernel's limit of 65,530 mappings is near.

  Each program that XLA compiles for a CPU holds some, and a process beyond the limit
  crashes without a word.
  """
  yield
  maps = pathlib.Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > 25_000:
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def golden(request):
  """Returns check(name, text): fails unless tests/golden/NAME.txt holds `text`."""

  def check(name, text):
    path = GOLDEN / f"{name}.txt"
    text = text.rstrip("\n") + "\n"
    if request.config.getoption("--renew"):
      GOLDEN.mkdir(exist_ok=True)
      path.write_text(text, encoding="utf-8")
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    if stored != text:
      diff = difflib.unified_diff(
        stored.splitlines(), text.splitlines(), "kept", "now", lineterm="", n=1
      )
      command = f"./launch.sh test --renew '{request.node.nodeid}'"
      pytest.fail(
        "\n".join([f"{path.name} differs; if it should: {command}", *diff]),
        pytrace=False,
      )

  return check


def _loopback(host) -> bool:
  host = host.decode() if isinstance(host, bytes) else host
  if host in (None, "", "localhost", socket.gethostname()):
    return True
  try:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
  except ValueError:  # a name, which only the network could resolve
    return False


def _guarded(function, host_of):
  def guarded(*args, **kwargs):
    host = host_of(*args, **kwargs)
    if not _loopback(host):
      raise RuntimeError(f"tests use no network, and this one wants {host!r}")
    return function(*args, **kwargs)

  return guarded


def _peer(self, address):
  return address[0] if isinstance(address, tuple) else None  # a path: a unix socket


socket.socket.connect = _guarded(socket.socket.connect, _peer)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex, _peer)
socket.getaddrinfo = _guarded(socket.getaddrinfo, lambda host, *_, **__: host)
