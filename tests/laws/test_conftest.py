"""Guards of conftest.py: no network, no colliding test files."""

import socket
import warnings

import conftest
import jax
import jax.numpy as jnp
import pytest


def test_there_are_eight_devices():
  assert len(jax.devices()) == 8


def test_the_network_is_out_of_reach():
  with pytest.raises(RuntimeError, match="no network"):
    socket.getaddrinfo("example.com", 80)
  with socket.socket() as s, pytest.raises(RuntimeError, match="no network"):
    s.connect(("192.0.2.1", 80))  # TEST-NET-1: a reserved address


def test_this_machine_is_in_reach():
  with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()


def test_ranks_are_not_promoted():
  with pytest.raises(ValueError, match="rank_promotion"):
    jnp.ones((2, 3)) + jnp.ones(3)


def test_what_jax_deprecates_is_an_error():
  with pytest.raises(DeprecationWarning), jax.make_mesh((8,), ("data",)):
    pass


@pytest.mark.parametrize("module", ["jax._src.x", "flax.linen.x", "lm.train"])
def test_warnings_of_the_libraries_are_errors(module):
  def warn(category):
    warnings.warn_explicit("a planted warning", category, "x.py", 1, module)

  for category in (DeprecationWarning, UserWarning, FutureWarning):
    with pytest.raises(category, match="planted"):
      warn(category)


def test_a_golden_names_the_command_that_renews_it(golden, request):
  golden("conftest", "one fact a line")
  if not request.config.getoption("--renew"):
    with pytest.raises(pytest.fail.Exception, match=r"--renew 'tests/laws/test_con"):
      golden("conftest", "another fact")


@pytest.mark.parametrize("pattern", conftest.QUICK)
def test_every_pattern_of_quick_has_a_file(pattern):
  file = pattern.partition("::")[0]
  assert any(path.is_file() for path in conftest.ROOT.glob(file))


def test_quick_takes_tests_by_their_ids():
  file = "tests/laws/test_equalities.py"
  assert conftest.is_quick(file)
  assert conftest.is_quick(f"{file}::test_unrolled_equals_scanned[llama]")
  assert not conftest.is_quick(f"{file}::test_unrolled_equals_scanned[t5]")
  assert not conftest.is_quick("tests/verbs/test_resume.py")
