"""Trees of arrays by path: everything that is done to a tree by the names in it."""

import jax


def path_name(path) -> str:
  """Returns a key path of jax as one string: "blocks/attention/q"."""
  return "/".join(
    str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
  )


def by_path(tree) -> dict:
  """Returns the leaves of a tree by their path names, in the order of the tree."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {path_name(path): leaf for path, leaf in leaves}


def nested(leaves: dict) -> dict:
  """Returns the tree of dicts with these leaves by path: the inverse of `by_path`."""
  tree = {}
  for path, leaf in leaves.items():
    *folders, name = path.split("/")
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[name] = leaf
  return tree


def by_field(tree) -> dict[str, dict]:
  """Returns the leaves by top-level field, then by path: {"params": {"embed": x}}.

  A field that is a leaf itself has the path "". Fields without leaves do not appear.
  """
  fields = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaves = fields.setdefault(path_name(path[:1]), {})
    leaves[path_name(path[1:])] = leaf
  return fields


def is_under(path: str, folder: str) -> bool:
  """True if `path` is `folder` or lies in it: "params/embed" in "params"."""
  return path == folder or path.startswith(f"{folder}/")


def shapes_of(tree) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every leaf by path."""
  return {path: tuple(leaf.shape) for path, leaf in by_path(tree).items()}


def describe(tree) -> dict[str, str]:
  """Returns dtype and shape of every leaf by path: {"embed": "float32[256,64]"}."""
  return {
    path: f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "")
    for path, leaf in by_path(tree).items()
  }


def retyped(have: dict[str, str], want: dict[str, str]) -> dict[str, str]:
  """Returns descriptions with the dtype wanted where the shape is, for `differs`."""

  def shape(path, described):
    return described.get(path, "absent[").partition("[")[2]

  return {
    path: want[path] if shape(path, have) == shape(path, want) else leaf
    for path, leaf in have.items()
  }


def as_dtype(shapes, dtype: str):
  """Returns a tree of ShapeDtypeStruct with another dtype for all leaves."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding), shapes
  )


def differs(have: dict[str, str], want: dict[str, str]) -> str:
  """Returns one line on the first leaf that two descriptions do not share, else "".

  >>> differs({"w": "float32[2]"}, {"w": "float32[3]"})
  'w is float32[2] in it, float32[3] was wanted'
  """
  for path in sorted({*have, *want}):
    stored, wanted = have.get(path, "absent"), want.get(path, "absent")
    if stored != wanted:
      return f"{path} is {stored} in it, {wanted} was wanted"
  return ""


def placed(shapes, shardings):
  """Returns the shapes with their shardings, as restoring a checkpoint wants them."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    shardings,
  )
