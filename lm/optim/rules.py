"""Values per parameter, from tables of regular expressions."""

import re

import jax

from lm import trees
from lm.errors import Mistake


def assign(name, rules, paths, default) -> dict:
  """Returns {path: value} for every path; the first rule that matches a path wins.

  Args:
    name: of the table, for messages.
    rules: (regex, value) pairs; a regex has to match the whole path. Empty: every path
      gets its default. Otherwise the rules have to cover all paths, so that none is
      forgotten; end them in (".*", value) for the rest.
    paths: such as "blocks/attention/q".
    default: path -> value.

  Raises Mistake for paths that are not covered, for an invalid regex, and for a rule
  that decides nothing.

  >>> assign("freeze", ((".*norm", True), (".*", False)), ["q", "k_norm"], None)
  {'k_norm': True, 'q': False}
  """
  if not rules:
    return {path: default(path) for path in paths}
  values = {}
  for rule in rules:
    regex, value = _checked(name, rule)
    matching = [path for path in paths if re.fullmatch(regex, path)]
    new = [path for path in matching if path not in values]
    values |= dict.fromkeys(new, value)
    if not new:
      reason = (
        "only matches what rows before it take" if matching else "matches nothing"
      )
      raise Mistake(
        f"{name}: {regex!r} {reason}; the parameters are {', '.join(paths)}"
      )
  uncovered = [path for path in paths if path not in values]
  if uncovered:
    raise Mistake(
      f"{name} does not cover {', '.join(uncovered)}; add rows for them, or end it in "
      '(".*", value)'
    )
  return values


def check(name, rules):
  """Raises Mistake unless `rules` are (regex, value) pairs with valid regexes."""
  if not isinstance(rules, tuple | list):
    raise Mistake(f"{name} must hold (regex, value) pairs; got {rules!r}")
  for rule in rules:
    _checked(name, rule)


def _checked(name, rule):
  if not isinstance(rule, tuple | list) or len(rule) != 2:
    raise Mistake(f"{name} must hold (regex, value) pairs; got {rule!r}")
  try:
    re.compile(rule[0])
  except (re.error, TypeError) as error:
    raise Mistake(f"{name}: {rule[0]!r} is no regex: {error}") from None
  return rule


def map_with_path(function, *of_trees):
  """Returns jax.tree.map of function(path, *leaves).

  Values per parameter are looked up by path, not by a tree of the same structure, since
  `optax.partition` leaves holes in the trees that its parts get.
  """
  named = lambda path, *leaves: function(trees.path_name(path), *leaves)
  return jax.tree_util.tree_map_with_path(named, *of_trees)
