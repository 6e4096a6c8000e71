"""Tracer of suffixes: reports planted wrong suffixes and nothing else."""

import importlib.util
import textwrap

import jax
import jax.numpy as jnp
import pytest
import suffixes


@pytest.fixture
def planted(tmp_path):
  """Returns a function that makes a module of a text, in a folder that is traced."""

  def plant(text):
    path = tmp_path / "lib" / "planted.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("import jax\nimport jax.numpy as jnp\n" + textwrap.dedent(text))
    spec = importlib.util.spec_from_file_location("planted", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

  return plant


def test_true_names_pass_and_are_counted(planted, tmp_path):
  module = planted("""
    def f(x_BTD):
      B, T, D = x_BTD.shape
      def one(x_TD):
        mean_D = x_TD.mean(0)
        return mean_D
      mean_BD = jax.vmap(one)(x_BTD)
      none_BT, text_BT, OTHER, last_B1D = None, "BT", jnp.ones(()), x_BTD[:, -1:]
      y_BTD, sum_B = jax.lax.scan(
        lambda carry_BTD, _: (carry_BTD + 1, None), x_BTD, length=3)[0], mean_BD.sum(-1)
      return y_BTD
  """)
  with suffixes.checked("lib", root=tmp_path) as names:
    jax.eval_shape(module.f, jnp.ones((2, 3, 4)))
  found_names = {name.rpartition(":")[2] for name in names}
  assert found_names == {
    "x_BTD",
    "x_TD",
    "mean_D",
    "mean_BD",
    "carry_BTD",
    "y_BTD",
    "sum_B",
  }


@pytest.mark.parametrize(
  "line, lie",
  [
    ("y_BT = x_BTD", "f: y_BT has rank 3"),
    ("z_TB = x_BTD[..., 0]", "f: z_TB has T=2, and x_BTD has T=3"),
    ("x_BTD = x_BTD[:, :1]", "f: x_BTD has T=1, and x_BTD has T=3"),
    ("y_BB = x_BTD[..., 0]", "f: y_BB has B=3, and x_BTD has B=2"),
    ("g = lambda w_BT: w_BT.sum(); g(x_BTD)", "<lambda>: w_BT has rank 3"),
    ("y_BT = x_BTD; y_BT = x_BTD[..., 0]", "f: y_BT has rank 3"),
  ],
)
def test_a_planted_lie_is_caught(planted, tmp_path, line, lie):
  module = planted(f"""
    def f(x_BTD):
      {line.replace("; ", chr(10) + "      ")}
      return x_BTD
  """)
  lies = pytest.raises(AssertionError, match="lie about their shape")
  with lies as error, suffixes.checked("lib", root=tmp_path):
    jax.jit(module.f)(jnp.ones((2, 3, 4)))
  assert f"lib/planted.py:{lie}" in str(error.value)


def test_an_error_inside_is_not_hidden(planted, tmp_path):
  module = planted("""
    def f(x_BTD):
      y_BT = x_BTD
      raise KeyError("from inside")
  """)
  error = pytest.raises(KeyError, match="from inside")
  with error, suffixes.checked("lib", root=tmp_path):
    module.f(jnp.ones((2, 3, 4)))


def test_other_folders_are_left_alone(planted, tmp_path):
  module = planted("""
    def f(x_BTD):
      y_BT = x_BTD
      return y_BT
  """)
  with suffixes.checked("elsewhere", root=tmp_path) as names:
    module.f(jnp.ones((2, 3, 4)))
  assert not names
