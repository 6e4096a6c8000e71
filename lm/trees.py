"""Trees of arrays by path: everything that is done to a tree by the names in it."""

import jax


def path_name(path) -> str:
  """A key path of jax as one string: "blocks/attention/q"."""
  return "/".join(
    str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
  )


def by_path(tree) -> dict:
  found = jax.tree_util.tree_leaves_with_path(tree)
  return {path_name(path): leaf for path, leaf in found}


def shapes_of(tree) -> dict[str, tuple[int, ...]]:
  """Path -> shape of every leaf."""
  return {path: tuple(leaf.shape) for path, leaf in by_path(tree).items()}


def placed(shapes, where):
  """The shapes with the shardings `where` noted on them, as restoring wants it."""
  return jax.tree.map(
    lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), shapes, where
  )
