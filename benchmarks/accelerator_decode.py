"""Greedy decoding by lm on one device, the prompt's time included.

A side of benchmarks/accelerator.py: bfloat16 operands, random parameters, and depth
unrolled, so that no step slices a stack of weights.
"""

import argparse
import time

import jax
import numpy as np

from benchmarks.accelerator_process import serve
from benchmarks.accelerator_shapes import Sizes, sizes
from lm import models
from lm.generate import decode
from lm.letters import abstract


def results(sizes: Sizes):
  """Yields {} once the model is ready, then tokens/s by batch and round."""
  fields, new = sizes.decoded, sizes.new
  model = models.build("decoder", **fields, scan=False, dtype="bfloat16")
  draw = np.random.default_rng(0)
  prompts_BT = draw.integers(
    0, fields["vocab"], (max(sizes.batches), sizes.prompt), np.int32
  )
  shapes, _ = abstract(model, prompts_BT)
  params = jax.tree.map(
    lambda x: jax.numpy.asarray(0.02 * draw.standard_normal(x.shape, np.float32)),
    shapes,
  )
  params = decode.prepare_params(model, params)
  yield {"ready": True}
  for batch in sizes.batches:
    seconds(model, params, prompts_BT[:batch], new)  # compiles
    for _ in range(sizes.rounds):
      took_s = seconds(model, params, prompts_BT[:batch], new)
      yield {"tokens_per_s": batch * new / took_s}


def seconds(model, params, prompts_BT, new: int) -> float:
  """Returns the seconds of continuing all prompts by `new` tokens each."""
  start = time.perf_counter()
  output = decode.generate(model, params, list(prompts_BT), max_tokens=new)
  assert output.lengths_B.tolist() == [new] * len(prompts_BT)
  return time.perf_counter() - start


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tiny", action="store_true")
  serve(results(sizes(parser.parse_args().tiny)))
