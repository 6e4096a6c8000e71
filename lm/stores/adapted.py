"""Adapted runs (lm/adapt): the model that one began from, and what it has trained.

Only the latter is in its checkpoints. The store of such a run gives the parameters of
an ordinary model, with the adapters merged.
"""

import re

import jax

from lm import adapt, stores, trees
from lm.errors import Mistake
from lm.letters import abstract_of, make_mesh, shardings
from lm.nn import linear, quantised


def base(run) -> stores.Store:
  """Returns the store that a RunStore began from: it has what the run froze.

  Raises Mistake when there is none any more.
  """
  path = run.config["init"]["path"]
  try:
    return stores.open(path)
  except Mistake as mistake:
    raise Mistake(
      f"{run.path} adapts {path} and needs it to be read: {mistake}"
    ) from mistake


def adapter(run) -> adapt.Adapter:
  """Returns the Adapter of a RunStore."""
  fields = {name: value for name, value in run.fields.items() if name != "vocab"}
  fresh = run.config["init"].get("fresh") or stores.fresh_head(base(run), fields)
  adaptation = adapt.make(run.config["adapt"]).fitted(
    base(run).tokenizer(), seq=run.config["seq"], task=run.config["task"]
  )
  return adapt.Adapter(adaptation, run.model, fresh=fresh)


def read(run, wanted: dict) -> dict:
  """Returns the arrays of {path: ShapeDtypeStruct} of a RunStore, adapters merged."""
  own = adapter(run)
  mesh = _mesh(wanted)
  params, frozen = parts(run, own, mesh)
  merged = jax.jit(own.merged)(params, frozen)
  merged = trees.by_path(merged, is_leaf=linear.is_weight)
  return {path: _as(merged[path], leaf) for path, leaf in wanted.items()}


def _as(merged, leaf: jax.ShapeDtypeStruct):
  """Returns a merged array as wanted; a Weight, where it is, in the dtype wanted.

  What is quantised in it stays so.
  """
  if linear.is_weight(merged):
    cast = lambda x: x if quantised.is_quantised(x) else x.astype(leaf.dtype)
    return jax.tree.map(cast, merged, is_leaf=quantised.is_quantised)
  return jax.device_put(merged.astype(leaf.dtype), leaf.sharding)


def parts(run, own: adapt.Adapter, mesh=None) -> tuple:
  """Returns (trained parameters, {path: frozen array}) of a RunStore, in float32.

  `own` is its Adapter; the arrays are placed on `mesh`, by default the first device.
  """
  mesh = mesh or make_mesh(jax.devices()[:1])
  params = own_params(run, own, mesh)
  whole = trees.placed(own.shapes, shardings(mesh, own.letters, own.shapes))
  trained = set(trees.by_path(whole)) - set(own.frozen)
  fresh = tuple(map(re.escape, sorted(trained)))
  stored = base(run).params(whole, fresh=fresh, drawn=whole)
  leaves = trees.by_path(stored, is_leaf=linear.is_weight)
  return params, {path: leaves[path] for path in own.frozen}


def own_params(run, own: adapt.Adapter, mesh=None):
  """Returns the trained parameters of a RunStore, in float32."""
  shapes, letters = abstract_of(own.init)
  where = shardings(mesh or make_mesh(jax.devices()[:1]), letters, shapes)
  return run.own_params(trees.placed(shapes, where))


def _mesh(wanted: dict):
  """Returns the mesh that arrays are wanted on, None where they are on one device."""
  leaf = next(iter(wanted.values()))
  return getattr(leaf.sharding, "mesh", None)
