"""The platform that a program is traced for; its FLOPs, the peaks of chips, MFU.

`target` and `one_device` name what is being traced for: the forms of a computation, and
the backends of attention, are chosen by them. `narrow` keeps 64-bit types out.

`count` walks the jaxpr of a function. Formulas drift (MaxText corrected its own eight
times), the program cannot: what is counted is what is traced, a matmul of [M, K] and
[K, N] as 2 M N K. Elementwise work is left out, as usual. XLA's own cost analysis is
not used: it sees loops once.
"""

import functools
import math
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from lm.errors import Mistake

# Calls into libraries, whose computation is not in the jaxpr.
NARROW = "lm_narrow_"  # begins the names of our own: products, of lm.nn.narrow
OPAQUE = re.compile("ffi_call|custom_call|triton|mosaic")


def narrow(function):
  """Returns the function without 64-bit types, whatever JAX_ENABLE_X64 says.

  Decoding keeps its places in int32, which sums and ranges would turn into int64.
  """

  @functools.wraps(function)
  def call(*args, **kwargs):
    with jax.enable_x64(False):
      return function(*args, **kwargs)

  return call


def count(function, *args, while_trips=None) -> int:
  """Returns the matmul and convolution FLOPs of function(*args), over all devices.

  The arguments may be shapes (ShapeDtypeStruct). A `cond` counts as its dearest branch,
  recomputation (remat) each time it happens, a masked matmul in full, and a Pallas
  kernel as if it skipped no block. Inside `shard_map` all shards are added up.
  `while_trips` is the number of iterations of every `while`. Raises Mistake for a
  `while` with matmuls when that is None, and for calls into libraries, which cannot be
  counted.
  """
  return _jaxpr(jax.make_jaxpr(function)(*args).jaxpr, while_trips)


def model_flops(loss, *args, while_trips=None) -> int:
  """Returns the FLOPs that a training step needs: three times those of `loss`.

  Each matmul has two more in its gradient. What is recomputed does not count here, so
  it lowers the MFU (PaLM, arXiv:2204.02311, appendix B); `count` of the whole step
  includes it. Too much for frozen weights and for inputs without gradient.
  """
  return 3 * count(loss, *args, while_trips=while_trips)


def _jaxpr(jaxpr, trips) -> int:
  return sum(_equation(eqn, trips) for eqn in jaxpr.eqns)


def _equation(eqn, trips) -> int:
  """Returns the FLOPs of one primitive and of the jaxprs in it."""
  name, params = eqn.primitive.name, eqn.params
  if name in MATMULS:
    return MATMULS[name]([v.aval.shape for v in (*eqn.invars, *eqn.outvars)], params)
  if str(params.get("target_name", "")).startswith(NARROW):
    return 2 * math.prod(eqn.outvars[0].aval.shape[-2:]) * eqn.invars[0].aval.shape[1]
  if OPAQUE.search(name):
    raise Mistake(f"cannot see the FLOPs in {name}; count a form without it")
  if name == "custom_linear_solve":  # its other jaxprs serve differentiation alone
    params = {"solve": params["jaxprs"].solve}
  inner = [_jaxpr(sub, trips) for value in params.values() for sub in _jaxprs(value)]
  if name == "while" and sum(inner):
    if trips is None:
      raise Mistake(
        "a while loop with matmuls has no known length; pass while_trips, or make it a "
        "scan or a fori_loop with fixed bounds"
      )
    return trips * sum(inner)
  if name == "cond":
    return max(inner)
  return _times(name, params) * sum(inner)


def _times(name, params) -> int:
  """Returns the number of times that the body of a primitive runs."""
  if name == "scan":
    return params["length"]
  if name == "shard_map":
    axes = params["newly_manual_axes"]
    return math.prod(params["mesh"].shape[axis] for axis in axes)
  if name == "pallas_call":
    return math.prod(params["grid_mapping"].grid)
  return 1


def _jaxprs(value):
  """Yields the jaxprs in a parameter of a primitive: itself, or in a tuple."""
  if isinstance(value, core.ClosedJaxpr):
    yield value.jaxpr
  elif isinstance(value, core.Jaxpr):
    yield value
  elif isinstance(value, tuple | list):
    for item in value:
      yield from _jaxprs(item)


def _dot(shapes, params):
  lhs, _, out = shapes
  (contracted, _), _ = params["dimension_numbers"]
  return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)


def _conv(shapes, params):
  _, rhs, out = shapes
  # The kernel holds input features / groups, hence every output sums over it all but
  # for the output features.
  features = rhs[params["dimension_numbers"].rhs_spec[0]]
  return 2 * math.prod(out) * math.prod(rhs) // features


def _ragged_dot(shapes, params):
  """Returns the FLOPs of a dot of lhs and one group: every row meets one matrix."""
  lhs, out = shapes[0], shapes[-1]
  numbers = params["ragged_dot_dimension_numbers"]
  (contracted, _), (batch, _) = numbers.dot_dimension_numbers
  if numbers.lhs_ragged_dimensions[0] in contracted:
    # The weight gradient: groups split the sum, and the result has one matrix for each.
    out = out[1:]
  elif numbers.lhs_ragged_dimensions[0] in batch:
    raise Mistake("ragged_dot with ragged batch dimensions is not counted")
  return 2 * math.prod(out) * math.prod(lhs[axis] for axis in contracted)


def _cudnn(matmuls, shapes, params):
  """Returns the FLOPs of cuDNN's attention: `matmuls` of all queries and all keys."""
  q, k = shapes[:2]
  return 2 * matmuls * math.prod(q) * k[2 if params["layout"] else 1]


MATMULS = {
  "dot_general": _dot,
  "conv_general_dilated": _conv,
  "ragged_dot_general": _ragged_dot,
  "dot_product_attention_fwd_wrapper": functools.partial(_cudnn, 2),
  # Scores again, then the gradients of values, probabilities, queries and keys.
  "dot_product_attention_bwd_wrapper": functools.partial(_cudnn, 5),
}

# Dense bfloat16 FLOP/s of one JAX device, by the start of its device_kind.
PEAKS = {
  # cloud.google.com/tpu/docs: v4, v5e, v5p, v6e; both names that JAX has had for each.
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v5p": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  # NVIDIA's data sheets, without sparsity (the sheets' larger figures are with it).
  "NVIDIA A100": 312e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100 NVL": 835e12,
  "NVIDIA H200": 989e12,
  "NVIDIA B200": 2250e12,
}


def peak_flops(device, dtype) -> float:
  """Returns the FLOP/s that matmuls of `dtype` can reach on one JAX device.

  From PEAKS, else measured (CPUs): a GEMM alone, once per process, under half a second
  and too low while the machine is busy. Virtual CPU devices share the machine's figure.
  With JAX's default precision float32 runs as bfloat16 on TPUs, and as TF32, half as
  fast, on GPUs.
  """
  kind = device.device_kind
  names = [name for name in PEAKS if kind.startswith(name)]
  if names:
    slower = jnp.dtype(dtype).itemsize > 2 and kind.startswith("NVIDIA")
    return PEAKS[max(names, key=len)] / (2 if slower else 1)
  share = jax.local_device_count("cpu") if device.platform == "cpu" else 1
  return _measured(device.platform, jnp.dtype(dtype)) / share


@functools.cache
def _measured(platform, dtype) -> float:
  size = 1024 if platform == "cpu" else 8192
  device = jax.local_devices(backend=platform)[0]
  x = jax.device_put(np.ones((size, size), dtype), device)
  gemm = jax.jit(lambda x, y: jnp.dot(x, y, preferred_element_type=jnp.float32))
  jax.block_until_ready(gemm(x, x))
  best_s, start = math.inf, time.perf_counter()
  while time.perf_counter() - start < 0.3:
    before = time.perf_counter()
    jax.block_until_ready(gemm(x, x))
    best_s = min(best_s, time.perf_counter() - before)
  return 2 * size**3 / best_s


def mfu(flops_per_step, step_s, peak) -> float:
  """Returns the model FLOPs utilisation, 0 to 1; `peak` is that of all devices."""
  return flops_per_step / (step_s * peak)


def target() -> str:
  """Returns the platform that is being traced for: "cpu", "gpu" or "tpu".

  It is that of the mesh of `jax.set_mesh`, which may be of devices that this machine
  does not have, else JAX's default backend.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device.platform if device else jax.default_backend()


def one_device() -> bool:
  """Returns True if one device is being traced for: no mesh, or a mesh of one."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1
