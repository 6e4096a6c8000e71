"""Feed-forward layers of which each token uses a few: mixture of experts.

Routing as in Mixtral (arXiv:2401.04088): softmax over all experts, the `top_k` best of
them, their weights scaled to add up to 1. Load-balance loss: Switch Transformer
(arXiv:2101.03961, equations 4 to 6); router z-loss: ST-MoE (arXiv:2202.08906, equation
5). Two forms that give the same as long as no expert is full:
- with a capacity, when training: tokens go to the places of an expert by one matmul
  and come back by another (GShard, arXiv:2006.16668); what finds none is dropped.
- dropless, the rest of the time or with capacity 0: tokens are sorted by expert and
  meet its matrices in one ragged matmul (MegaBlocks, arXiv:2211.15841). On a CPU, where
  XLA has no such matmul, every expert sees every token, at E / top_k times the cost.
On a mesh, `expert` splits the experts; each of its devices sees all tokens of its rows.
In names here J is a choice of a token, X a piece of a row, P a token in it, R a place
of an expert or a token with one of its choices, and Q all choices of a piece.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.sharding import PartitionSpec

from lm import platform
from lm.errors import Mistake, not_negative, one_of, positive
from lm.letters import constrain, constrain_to, spec, weight
from lm.nn.layers import ACTIVATIONS, GATED
from lm.nn.linear import dot, linear

PIECE = 256  # tokens that compete for places; the two matmuls cost in proportion to it


@dataclass(frozen=True)
class Feed:
  """What comes after attention: one feed-forward, or experts."""

  ff: int = 0  # F, of each expert; 0 means 4 D, or 8/3 D rounded up to 64 when gated
  activation: str = "swiglu"  # see lm.nn.layers.ACTIVATIONS
  experts: int = 0  # E; 0 means one feed-forward for all tokens
  top_k: int = 2  # experts of a token
  capacity: float = 0.0  # training: places over choices; 0 means that none is dropped
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
  """What experts have to know of the tokens that come."""

  real_BT: jax.Array | None = (
    None  # False is padding, which goes nowhere; None: all are
  )
  drops: bool = struct.field(pytree_node=False, default=False)  # training, that is


def traffic(positions_BT, segments_BT, *, train: bool) -> Traffic:
  """Padding is at position -1, or in segment 0."""
  real = [at >= 0 for at in (positions_BT,) if at is not None]
  real += [segment > 0 for segment in (segments_BT,) if segment is not None]
  real_BT = None if not real else real[0] if len(real) == 1 else real[0] & real[1]
  return Traffic(real_BT, drops=train)


class Experts(nn.Module):
  """The `top_k` of E feed-forwards that suit a token best, weighted."""

  feed: Feed
  dtype: str
  scale: float  # of the way back into the residual stream

  @nn.compact
  def __call__(self, x_BTD, traffic: Traffic):
    """y_BTD, and means over tokens: "balance", "router_z", "dropped_share".

    "balance" is top_k when all experts are used alike, and up to E when not;
    "dropped_share" is the share of choices that found no place.
    """
    D, E = x_BTD.shape[-1], self.feed.experts
    F = self.feed.size(D)
    # In float32 whatever the dtype: rounding would decide between close experts.
    logits_BTE = linear(self, "router", "BTD,DE->BTE", x_BTD, (D, E), dtype="float32")
    logits_BTE = constrain_to(logits_BTE, PartitionSpec(*spec("BT"), None))
    probs_BTE = jax.nn.softmax(logits_BTE)
    gates_BTJ, ids_BTJ = _best(probs_BTE, self.feed.top_k)
    gates_BTJ = gates_BTJ / jnp.sum(gates_BTJ, axis=-1, keepdims=True)
    real_BT = traffic.real_BT
    if real_BT is None:
      real_BT = jnp.ones(ids_BTJ.shape[:2], bool)

    draw = lambda fan, scale=1.0: nn.initializers.normal(scale / math.sqrt(fan))
    names = ("gate", "up") if self.feed.activation in GATED else ("up",)
    weights = {n: weight(self, n, "EDF", (E, D, F), draw(D)) for n in names}
    weights["down"] = weight(self, "down", "EFD", (E, F, D), draw(F, self.scale))

    x_BTD = jnp.asarray(x_BTD, self.dtype)
    means = _means(logits_BTE, probs_BTE, ids_BTJ, real_BT)
    routes = (x_BTD, ids_BTJ, gates_BTJ, real_BT)
    if self.feed.capacity and traffic.drops:
      y_BTD, means["dropped_share"] = with_capacity(*routes, weights, self.feed)
    else:
      y_BTD, means["dropped_share"] = (
        dropless(*routes, weights, self.feed),
        jnp.zeros(()),
      )
    return constrain(y_BTD, "BTD"), means


def _best(x_BTE, J: int):
  """The J largest values and their indices: `top_k`, which GSPMD does not split."""
  values, ids = [], []
  for _ in range(J):
    ids.append(jnp.argmax(x_BTE, axis=-1))
    hit_BTE = jax.nn.one_hot(ids[-1], x_BTE.shape[-1], dtype=bool)
    values.append(jnp.sum(jnp.where(hit_BTE, x_BTE, 0), axis=-1))
    x_BTE = jnp.where(hit_BTE, -jnp.inf, x_BTE)
  return jnp.stack(values, axis=-1), jnp.stack(ids, axis=-1)


def _means(logits_BTE, probs_BTE, ids_BTJ, real_BT) -> dict:
  """The two losses of a layer, of real tokens."""
  E = probs_BTE.shape[-1]
  count = jnp.maximum(jnp.sum(real_BT), 1)
  mean = lambda x: jnp.sum(jnp.where(real_BT[..., None], x, 0), axis=(0, 1)) / count
  used_E = mean(jnp.sum(jax.nn.one_hot(ids_BTJ, E), axis=2))
  z_BT1 = jax.nn.logsumexp(logits_BTE, axis=-1, keepdims=True)
  return {
    "balance": E * jnp.sum(used_E * mean(probs_BTE)),
    "router_z": jnp.sum(mean(z_BT1**2)),
  }


def with_capacity(x_BTD, ids_BTJ, gates_BTJ, real_BT, weights, feed: Feed):
  """(y_BTD, the share of choices dropped). Places are given by piece of a row.

  First choices are served before second ones, earlier tokens before later ones.
  """
  (B, T, D), (J, E) = x_BTD.shape, (ids_BTJ.shape[-1], feed.experts)
  P = PIECE if T % PIECE == 0 else T
  R = min(math.ceil(feed.capacity * J * P / E), P)
  cut = lambda x: x.reshape(B, T // P, P, *x.shape[2:])
  ids_BXJP, gates_BXJP = (jnp.moveaxis(cut(x), 3, 2) for x in (ids_BTJ, gates_BTJ))
  chosen_BXJPE = jax.nn.one_hot(ids_BXJP, E) * cut(real_BT)[:, :, None, :, None]
  chosen_BXQE = chosen_BXJPE.reshape(B, T // P, J * P, E)
  before_BXQE = jnp.cumsum(chosen_BXQE, axis=2) - chosen_BXQE
  place_BXJP = jnp.sum(before_BXQE * chosen_BXQE, axis=-1).reshape(ids_BXJP.shape)
  place_BXJPR = jax.nn.one_hot(place_BXJP.astype(jnp.int32), R)  # zeros from R on

  pair = "BXJPE,BXJPR->BXPER"
  send_BXPER = jax.lax.stop_gradient(dot(pair, chosen_BXJPE, place_BXJPR, "float32"))
  gated_BXJPE = chosen_BXJPE * gates_BXJP[..., None]
  take_BXPER = dot(pair, gated_BXJPE, place_BXJPR, "float32")
  dtype = x_BTD.dtype.name
  in_EBXRD = _placed(dot("BXPER,BXPD->EBXRD", send_BXPER, cut(x_BTD), dtype))
  h_EBXRF = _hidden(
    lambda w_EDF: dot("EBXRD,EDF->EBXRF", in_EBXRD, w_EDF, dtype), weights, feed
  )
  out_EBXRD = _placed(dot("EBXRF,EFD->EBXRD", h_EBXRF, weights["down"], dtype))
  y_BXPD = dot("BXPER,EBXRD->BXPD", take_BXPER, out_EBXRD, dtype)
  asked = jnp.maximum(jnp.sum(chosen_BXJPE), 1)
  return y_BXPD.reshape(B, T, D), 1 - jnp.sum(send_BXPER) / asked


def _placed(x_EBXRD):
  """Split as experts, rows and pieces are; a piece stays where its tokens are."""
  return constrain_to(x_EBXRD, PartitionSpec(*spec("EBT"), None, None))


def _hidden(into, weights, feed: Feed):
  """The activations between an expert's matrices; `into` multiplies by the first."""
  h, act = into(weights["up"]), ACTIVATIONS[feed.activation]
  return act(into(weights["gate"])) * h if "gate" in weights else act(h)


def dropless(x_BTD, ids_BTJ, gates_BTJ, real_BT, weights, feed: Feed):
  """y_BTD. On a mesh every device computes its rows with its experts, then they add."""
  ids_BTJ = jnp.where(real_BT[..., None], ids_BTJ, -1)
  if platform.target() == "cpu":
    return _every(x_BTD, ids_BTJ, gates_BTJ, weights, feed)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _sorted(x_BTD, ids_BTJ, gates_BTJ, weights, feed, first=0)

  def compute(x_BTD, ids_BTJ, gates_BTJ, weights):
    first = jax.lax.axis_index("expert") * len(weights["down"])
    y_BTD = _sorted(x_BTD, ids_BTJ, gates_BTJ, weights, feed, first=first)
    return jax.lax.psum(y_BTD, ("expert", "tensor"))

  def even(axis, n):
    """The axis where it splits n evenly: a single token is not split over context."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    return axis if n % math.prod(mesh.shape[a] for a in axes) == 0 else None

  rows = PartitionSpec(*map(even, spec("BT"), x_BTD.shape[:2]), None)
  # Not D, which is whole inside: a device gathers it, as for any other matmul.
  whole = {"EDF": ("expert", None, "tensor"), "EFD": ("expert", "tensor", None)}
  where = {n: PartitionSpec(*whole["EFD" if n == "down" else "EDF"]) for n in weights}
  split = jax.shard_map(
    compute,
    in_specs=(rows, rows, rows, where),
    out_specs=rows,
    check_vma=False,  # checked, the gradient to x is not added up over experts (0.10)
  )
  return split(x_BTD, ids_BTJ, gates_BTJ, weights)


def _every(x_BTD, ids_BTJ, gates_BTJ, weights, feed):
  """y_BTD from all experts, those that a token did not choose weighted with 0."""
  dtype, E = x_BTD.dtype.name, len(weights["down"])
  gates_BTE = jnp.sum(jax.nn.one_hot(ids_BTJ, E) * gates_BTJ[..., None], axis=2)
  into = lambda w_EDF: dot("BTD,EDF->BTEF", x_BTD, w_EDF, dtype)
  h_BTEF = constrain(_hidden(into, weights, feed), "BTEF")
  return dot("BTEF,EFD->BTD", h_BTEF * gates_BTE[..., None], weights["down"], dtype)


def _sorted(x_BTD, ids_BTJ, gates_BTJ, weights, feed, *, first):
  """What the experts from `first` on, those in `weights`, add to y_BTD."""
  (B, T, D), J, E = x_BTD.shape, ids_BTJ.shape[-1], len(weights["down"])
  ids_BTJ = ids_BTJ - first
  mine_BTJ = (ids_BTJ >= 0) & (ids_BTJ < E)
  ids_R = jnp.where(mine_BTJ, ids_BTJ, E).reshape(-1)  # E: after all groups, unused
  order_R = jnp.argsort(ids_R)
  sizes_E = jnp.bincount(ids_R, length=E + 1)[:E]
  x_RD = x_BTD.reshape(-1, D)[order_R // J]

  def ragged(x, w):
    """Precision as in `linear.dot`: operands of one dtype, sums in float32."""
    w = w.astype(x_BTD.dtype)
    sums = jnp.float32
    return jax.lax.ragged_dot(
      x.astype(w.dtype), w, sizes_E, preferred_element_type=sums
    )

  h_RF = _hidden(lambda w_EDF: ragged(x_RD, w_EDF), weights, feed)
  y_RD = ragged(h_RF, weights["down"])[jnp.argsort(order_R)]
  y_BTJD = jnp.where(mine_BTJ[..., None], y_RD.reshape(B, T, J, D), 0)
  return jnp.sum(y_BTJD * gates_BTJ[..., None], axis=2)
