"""One of two processes of a run: python checkpoint_pair.py PORT INDEX FOLDER.

Restores or starts a state, trains it on a mesh over both processes and saves every
fifth step, until the two agree to stop. Prints one line a step, and at the end the sum
of the weights, which is the same in both.
"""

import sys

import jax
import jax.numpy as jnp

from experiments.interrupt import Interrupt
from lm.checkpoint import Checkpoints
from lm.letters import make_mesh, sharding


def main(port, index, folder):
  jax.config.update("jax_num_cpu_devices", 2)
  jax.distributed.initialize(f"localhost:{port}", 2, int(index))
  mesh = make_mesh(data=2, fsdp=2)
  shardings = {"w_VD": sharding(mesh, "VD"), "step": sharding(mesh, "")}
  init = lambda: {"w_VD": jnp.arange(32.0).reshape(4, 8), "step": jnp.int32(0)}
  train = lambda s: {"w_VD": s["w_VD"] * 1.01, "step": s["step"] + 1}
  train_step = jax.jit(train, donate_argnums=0, out_shardings=shardings)
  shapes = jax.eval_shape(init)
  abstract = {
    k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shardings[k])
    for k, x in shapes.items()
  }
  with Interrupt() as interrupt, Checkpoints(folder, keep=2) as checkpoints:
    if checkpoints.steps():
      state, step, about = checkpoints.restore(abstract)
      print("restored", step, about["step"], int(state["step"]), flush=True)
    else:
      state, step = jax.jit(init, out_shardings=shardings)(), 0
    with jax.set_mesh(mesh):
      while not interrupt.agreed(step):
        state, step = train_step(state), step + 1
        if step % 5 == 0:
          checkpoints.save(step, state, about={"step": step})
        print("step", step, flush=True)
    checkpoints.save(step, state, about={"step": step})
  total = jax.jit(jnp.sum, out_shardings=shardings["step"])(state["w_VD"])
  print("stopped", step, float(total), interrupt.number, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
