"""Feed-forward layers of which each token uses a few: mixture of experts.

Routing as in Mixtral (arXiv:2401.04088): softmax over all experts, the `top_k` best of
them, their weights scaled to add up to 1. Load-balance loss: Switch Transformer
(arXiv:2101.03961, equations 4 to 6); router z-loss: ST-MoE (arXiv:2202.08906, equation
5). Two forms that give the same as long as no expert is full:
- with a capacity, in training: one matmul sends tokens to the places of an expert and
  another brings them back (GShard, arXiv:2006.16668); a token without a place is
  dropped.
- dropless, otherwise or with capacity 0: tokens are sorted by expert and multiplied by
  its matrices in one ragged matmul (MegaBlocks, arXiv:2211.15841). Where XLA has none
  of them, all experts compute all tokens, at E / top_k times the cost.
On a mesh, `expert` splits the experts; each of its devices has all tokens of its rows.
R are the places of an expert in a piece of a row or, sorted, tokens with a choice each.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.sharding import PartitionSpec

from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain, constrain_to, spec, weight
from lm.nn import cpu
from lm.nn.layers import ACTIVATIONS, GATED
from lm.nn.linear import dense, dims, dot, is_weight, linear, ragged

PIECE = 256  # tokens that compete for places; both matmuls cost in proportion to it


@dataclass(frozen=True)
class Feed:
  """The layer after attention: one feed-forward, or experts."""

  ff: int = 0  # F, of each expert; 0 means 4 D, or 8/3 D rounded up to 64 when gated
  activation: str = "swiglu"  # see lm.nn.layers.ACTIVATIONS
  experts: int = 0  # E; 0 means one feed-forward for all tokens
  top_k: int = 2  # experts of a token
  capacity: float = 0.0  # training: places / choices; 0 means that none is dropped
  balance: float = 0.01  # weight of the load-balance loss
  router_z: float = 0.001  # weight of the router's z-loss

  def __post_init__(self):
    one_of("activation", self.activation, ACTIVATIONS)
    positive(self, "top_k")
    not_negative(self, "ff", "experts", "capacity", "balance", "router_z")
    if 0 < self.experts < self.top_k:
      raise Mistake(f"top_k={self.top_k}; wanted 1 to experts={self.experts}")

  def size(self, width: int) -> int:
    """F of a model of this width."""
    gated = -(-width * 8 // 3 // 64) * 64
    return self.ff or (gated if self.activation in GATED else 4 * width)


@struct.dataclass
class Traffic:
  """The real tokens of a batch, and whether those beyond a capacity may be dropped."""

  real_BT: jax.Array | None = None  # False is padding; None: all tokens are real
  drops: bool = struct.field(pytree_node=False, default=False)  # in training


def traffic(positions_BT, segments_BT, *, train: bool) -> Traffic:
  """Returns the Traffic of a batch; padding is at position -1, or in segment 0."""
  real_BT = None if positions_BT is None else positions_BT >= 0
  if segments_BT is not None:
    inside_BT = segments_BT > 0
    real_BT = inside_BT if real_BT is None else real_BT & inside_BT
  return Traffic(real_BT, drops=train)


class Experts(nn.Module, kw_only=True):
  """The weighted sum of the `top_k` of E feed-forwards with the highest scores."""

  feed: Feed
  dtype: str
  scale: float  # of the initial weights into the residual stream

  @nn.compact
  def __call__(self, x_BTD, traffic: Traffic):
    """Returns y_BTD and {name: mean over the real tokens}.

    "balance" is top_k when all experts are used alike, and up to E when not; "router_z"
    the mean squared log-sum-exp of the scores; "dropped_share" the share of choices
    without a place.
    """
    D, E = x_BTD.shape[-1], self.feed.experts
    F = self.feed.size(D)
    # In float32 whatever the dtype: rounding would decide between close experts.
    logits_BTE = linear(self, "router", "BTD,DE->BTE", x_BTD, (D, E), dtype="float32")
    logits_BTE = constrain_to(logits_BTE, PartitionSpec(*spec("BT"), None))
    probs_BTE = jax.nn.softmax(logits_BTE)
    gates_BTX, ids_BTX = _best(probs_BTE, self.feed.top_k)
    gates_BTX = gates_BTX / jnp.sum(gates_BTX, axis=-1, keepdims=True)
    real_BT = traffic.real_BT
    if real_BT is None:
      real_BT = jnp.ones(ids_BTX.shape[:2], bool)

    draw = lambda fan, scale=1.0: nn.initializers.normal(scale / math.sqrt(fan))
    names = ("gate", "up") if self.feed.activation in GATED else ("up",)
    weights = {n: weight(self, n, "EDF", (E, D, F), draw(D)) for n in names}
    weights["down"] = weight(self, "down", "EFD", (E, F, D), draw(F, self.scale))

    x_BTD = jnp.asarray(x_BTD, self.dtype)
    means = _means(logits_BTE, probs_BTE, ids_BTX, real_BT)
    routes = (x_BTD, ids_BTX, gates_BTX, real_BT)
    if self.feed.capacity and traffic.drops:
      y_BTD, dropped = with_capacity(*routes, weights, self.feed)
    else:
      y_BTD, dropped = dropless(*routes, weights, self.feed), jnp.zeros(())
    means["dropped_share"] = dropped
    return constrain(y_BTD, "BTD"), means


def _best(x_BTE, X: int):
  """Returns the X largest values and their indices.

  As `jax.lax.top_k`, which GSPMD does not split.
  """
  values, ids = [], []
  for _ in range(X):
    ids.append(jnp.argmax(x_BTE, axis=-1))
    hit_BTE = jax.nn.one_hot(ids[-1], x_BTE.shape[-1], dtype=bool)
    values.append(jnp.sum(jnp.where(hit_BTE, x_BTE, 0), axis=-1))
    x_BTE = jnp.where(hit_BTE, -jnp.inf, x_BTE)
  return jnp.stack(values, axis=-1), jnp.stack(ids, axis=-1)


def _means(logits_BTE, probs_BTE, ids_BTX, real_BT) -> dict:
  """Returns the two auxiliary losses of a layer, as means over its real tokens."""
  E = probs_BTE.shape[-1]
  count = jnp.maximum(jnp.sum(real_BT), 1)
  mean = lambda x: jnp.sum(jnp.where(real_BT[..., None], x, 0), axis=(0, 1)) / count
  used_E = mean(jnp.sum(jax.nn.one_hot(ids_BTX, E), axis=2))
  z_BT1 = jax.nn.logsumexp(logits_BTE, axis=-1, keepdims=True)
  return {
    "balance": E * jnp.sum(used_E * mean(probs_BTE)),
    "router_z": jnp.sum(mean(z_BT1**2)),
  }


def with_capacity(x_BTD, ids_BTX, gates_BTX, real_BT, weights, feed: Feed):
  """Returns y_BTD and the share of choices that were dropped.

  Places are given within a piece of a row: to first choices before second ones, and to
  earlier tokens before later ones.
  """
  (B, T, D), (X, E) = x_BTD.shape, (ids_BTX.shape[-1], feed.experts)
  Q = PIECE if T % PIECE == 0 else T
  R = min(math.ceil(feed.capacity * X * Q / E), Q)
  cut = lambda x: x.reshape(B, T // Q, Q, *x.shape[2:])
  ids_BPXQ, gates_BPXQ = (jnp.moveaxis(cut(x), 3, 2) for x in (ids_BTX, gates_BTX))
  chosen_BPXQE = jax.nn.one_hot(ids_BPXQ, E) * cut(real_BT)[:, :, None, :, None]
  place_BPXQ = _places(chosen_BPXQE)
  place_BPXQR = jax.nn.one_hot(place_BPXQ.astype(jnp.int32), R)  # zeros from R on

  pair = "BPXQE,BPXQR->BPQER"
  send_BPQER = jax.lax.stop_gradient(dot(pair, chosen_BPXQE, place_BPXQR, "float32"))
  gated_BPXQE = chosen_BPXQE * gates_BPXQ[..., None]
  take_BPQER = dot(pair, gated_BPXQE, place_BPXQR, "float32")
  dtype = x_BTD.dtype.name
  in_EBPRD = _placed(dot("BPQER,BPQD->EBPRD", send_BPQER, cut(x_BTD), dtype))
  h_EBPRF = _hidden(
    lambda w_EDF: dot("EBPRD,EDF->EBPRF", in_EBPRD, w_EDF, dtype), weights, feed
  )
  out_EBPRD = _placed(dot("EBPRF,EFD->EBPRD", h_EBPRF, weights["down"], dtype))
  y_BPQD = dot("BPQER,EBPRD->BPQD", take_BPQER, out_EBPRD, dtype)
  choices = jnp.maximum(jnp.sum(chosen_BPXQE), 1)
  return y_BPQD.reshape(B, T, D), 1 - jnp.sum(send_BPQER) / choices


def _places(chosen_BPXQE):
  """Returns place_BPXQ: how many choices of the same expert come before each choice."""
  B, P, X, Q, E = chosen_BPXQE.shape
  chosen_BPRE = chosen_BPXQE.reshape(B, P, X * Q, E)
  before_BPRE = jnp.cumsum(chosen_BPRE, axis=2) - chosen_BPRE
  return jnp.sum(before_BPRE * chosen_BPRE, axis=-1).reshape(B, P, X, Q)


def _placed(x_EBPRD):
  """Returns x, split as experts and rows are; a piece stays where its tokens are."""
  return constrain_to(x_EBPRD, PartitionSpec(*spec("EBT"), None, None))


def _hidden(into, weights, feed: Feed):
  """Returns the activations between an expert's matrices; `into` multiplies by one."""
  h, act = into(weights["up"]), ACTIVATIONS[feed.activation]
  return act(into(weights["gate"])) * h if "gate" in weights else act(h)


def dropless(x_BTD, ids_BTX, gates_BTX, real_BT, weights, feed: Feed):
  """Returns y_BTD, with no choice dropped.

  On a mesh every device computes its rows with its experts; the results are summed.
  """
  ids_BTX = jnp.where(real_BT[..., None], ids_BTX, -1)
  if cpu.lacks_ragged_products():
    return _every(x_BTD, ids_BTX, gates_BTX, weights, feed)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _sorted(x_BTD, ids_BTX, gates_BTX, weights, feed, first=0)

  def compute(x_BTD, ids_BTX, gates_BTX, weights):
    first = jax.lax.axis_index("expert") * len(weights["down"])
    y_BTD = _sorted(x_BTD, ids_BTX, gates_BTX, weights, feed, first=first)
    return jax.lax.psum(y_BTD, ("expert", "tensor"))

  def even(axis, n):
    """Returns the axis if it splits n evenly: one token is not split over context."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    return axis if n % math.prod(mesh.shape[a] for a in axes) == 0 else None

  rows = PartitionSpec(*map(even, spec("BT"), x_BTD.shape[:2]), None)
  # Not D, which is whole inside: a device gathers it, as for any other matmul.
  weights, where = _split(weights, mesh)
  split = jax.shard_map(
    compute,
    in_specs=(rows, rows, rows, where),
    out_specs=rows,
    check_vma=False,  # checked, the gradient to x is not added up over experts (0.10)
  )
  return split(x_BTD, ids_BTX, gates_BTX, weights)


def _split(weights, mesh):
  """Returns the weights, and the PartitionSpec of each array in them.

  A quantised matrix in groups that the mesh does not divide is widened first.
  """
  axes, parts, where = {"E": "expert", "F": "tensor"}, {}, {}
  for name, w in weights.items():
    own = "EFD" if name == "down" else "EDF"
    if is_weight(w):
      letters, shape = dims(w, own).values, w.values.shape
      sizes = dict(zip(letters, shape, strict=True))
      if any(sizes.get(a, 1) % mesh.shape[axis] for a, axis in axes.items()):
        w = dense(w)  # of 1 in place of a dimension that is filled up
    parts[name] = w
    spec_of = lambda letters: PartitionSpec(*map(axes.get, letters))
    where[name] = jax.tree.map(spec_of, dims(w, own))
  return parts, where


def _every(x_BTD, ids_BTX, gates_BTX, weights, feed):
  """Returns y_BTD from all experts, weighted with 0 if a token did not choose them."""
  dtype, E = x_BTD.dtype.name, len(weights["down"])
  gates_BTE = jnp.sum(jax.nn.one_hot(ids_BTX, E) * gates_BTX[..., None], axis=2)
  into = lambda w_EDF: dot("BTD,EDF->BTEF", x_BTD, w_EDF, dtype)
  h_BTEF = constrain(_hidden(into, weights, feed), "BTEF")
  return dot("BTEF,EFD->BTD", h_BTEF * gates_BTE[..., None], weights["down"], dtype)


def _sorted(x_BTD, ids_BTX, gates_BTX, weights, feed, *, first):
  """Returns the part of y_BTD from the experts in `weights`, `first` and following."""
  (B, T, D), X, E = x_BTD.shape, ids_BTX.shape[-1], len(weights["down"])
  ids_BTX = ids_BTX - first
  mine_BTX = (ids_BTX >= 0) & (ids_BTX < E)
  ids_R = jnp.where(mine_BTX, ids_BTX, E).reshape(-1)  # E: after all groups, unused
  order_R = jnp.argsort(ids_R)
  sizes_E = jnp.bincount(ids_R, length=E + 1)[:E]
  x_RD = x_BTD.reshape(-1, D)[order_R // X]
  dtype = x_BTD.dtype
  h_RF = _hidden(lambda w_EDF: ragged(x_RD, w_EDF, sizes_E, dtype), weights, feed)
  y_RD = ragged(h_RF, weights["down"], sizes_E, dtype)[jnp.argsort(order_R)]
  y_BTXD = jnp.where(mine_BTX[..., None], y_RD.reshape(B, T, X, D), 0)
  return jnp.sum(y_BTXD * gates_BTX[..., None], axis=2)
