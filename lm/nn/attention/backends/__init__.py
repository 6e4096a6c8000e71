"""Backends of attention, one a file.

To add one, write `lm/nn/attention/backends/<name>.py` with two functions,

  attend(q_BTNH, k_BSKH, v_BSKH, mask, *, scale, softcap, dtype) -> y_BTNH in float32
  lacks(q_BTNH, k_BSKH, mask, *, scale, softcap, dtype) -> str

which may be called while tracing, on any mesh. Scores are q k^T * scale, capped by
`softcap` (0: not at all); operands of products are in `dtype`. `lacks` names the first
property of this call that `attend` does not honour, "" if there is none: a backend
honours the whole mask or names what it lacks. "xla" honours everything, and is the
reference. The default backends of a platform are in FASTEST, the first one first.
Those in CACHED read a cache alone, one in int8 as it is; others get it as arrays.
"""

from lm import lookup, platform
from lm.errors import Mistake
from lm.nn.attention.backends import xla
from lm.nn.attention.cache import widened
from lm.nn.attention.masks import Mask

FASTEST = {"tpu": ("splash",), "gpu": ("fused",), "cpu": ("chunked", "blocks")}
CACHED = ("blocks",)


def names() -> list[str]:
  """The names of all backends."""
  return lookup.names("lm.nn.attention.backends")


def attend(
  backend, q_BTNH, k_BSKH, v_BSKH, mask: Mask, *, scale, softcap, dtype, bias=None
):
  """Returns y_BTNH in float32, by a backend of this name.

  "auto" is the fastest backend of the target platform that lacks no property of the
  call, or "xla". `bias` (BNTS or 1NTS) is added to the scores, by "xla" alone.
  Raises Mistake when the backend lacks a property of the call.
  """
  options = dict(scale=scale, softcap=softcap, dtype=dtype)
  wide = widened(k_BSKH), widened(v_BSKH)
  if bias is not None:
    if backend not in ("auto", "xla"):
      raise Mistake(f"attention backend {backend!r} does not do biases; 'xla' does")
    return xla.attend(q_BTNH, *wide, mask, **options, bias=bias)
  is_auto = backend == "auto"
  for name in FASTEST.get(platform.target(), ()) if is_auto else (backend,):
    module = lookup.find("lm.nn.attention.backends", name)
    if not (lack := module.lacks(q_BTNH, k_BSKH, mask, **options)):
      kv = (k_BSKH, v_BSKH) if name in CACHED else wide
      return module.attend(q_BTNH, *kv, mask, **options)
  if is_auto:
    return xla.attend(q_BTNH, *wide, mask, **options)
  raise Mistake(
    f"attention backend {backend!r} does not do {lack}; 'xla' does, and 'auto' takes "
    f"'xla' where {backend!r} will not do"
  )
