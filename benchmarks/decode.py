"""Generation by lm and by `transformers`, side by side: a 135M Llama shape.

Run from the root of the repository: .venv/bin/python -m benchmarks.decode
Greedy, float32, a prompt of 32 tokens and 64 new ones, with the prompt's time included
on both sides; random weights. The peer counts at its better of two allocator settings.
"""

import argparse
import json
import statistics
import time

from benchmarks import sides

# SmolLM2-135M's: 30 layers, 9 heads on 3 kv heads, tied.
SHAPE = dict(vocab=49_152, width=576, ff=1536, layers=30, heads=9, kv_heads=3)
PROMPT, NEW, RUNS = 32, 64, 5
BATCHES, WANTED = (1, 16), 3.0


def measure(generate) -> dict:
  """Returns the median seconds of generate(), after one run that does not count."""
  took_s = []
  for _ in range(RUNS + 1):
    before = time.perf_counter()
    generate()
    took_s.append(time.perf_counter() - before)
  return {"generate_s": statistics.median(took_s[1:])}


def ours(batch):
  import jax
  import numpy as np

  from lm import models
  from lm.generate import decode
  from lm.letters import abstract

  model = models.build(
    "decoder", preset="llama_160m", **SHAPE, tied=True, scan=False, dtype="float32"
  )
  draw = np.random.default_rng(0)
  prompts = draw.integers(0, SHAPE["vocab"], (batch, PROMPT), np.int32)
  shapes, _ = abstract(model, prompts)
  params = jax.tree.map(
    lambda x: jax.numpy.asarray(0.02 * draw.standard_normal(x.shape, np.float32)),
    shapes,
  )
  params = decode.prepare_params(model, params)

  def generate():
    result = decode.generate(model, params, list(prompts), max_tokens=NEW)
    assert result.lengths_B.tolist() == [NEW] * batch

  return measure(generate)


def peer(batch):
  import torch
  from transformers import LlamaConfig, LlamaForCausalLM

  config = LlamaConfig(
    vocab_size=SHAPE["vocab"],
    hidden_size=SHAPE["width"],
    intermediate_size=SHAPE["ff"],
    num_hidden_layers=SHAPE["layers"],
    num_attention_heads=SHAPE["heads"],
    num_key_value_heads=SHAPE["kv_heads"],
    tie_word_embeddings=True,
  )
  model = LlamaForCausalLM(config).eval()
  prompts = torch.randint(SHAPE["vocab"], (batch, PROMPT))

  @torch.inference_mode()
  def generate():
    result = model.generate(
      prompts,
      attention_mask=torch.ones_like(prompts),
      max_new_tokens=NEW,
      do_sample=False,
      eos_token_id=None,
      pad_token_id=0,
    )
    assert result.shape == (batch, PROMPT + NEW)

  return measure(generate)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("case", nargs="*", help="SIDE BATCH: one run, as JSON")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()
  if args.case:
    side, batch = args.case
    print(json.dumps({"ours": ours, "peer": peer}[side](int(batch))))
    return
  for batch in BATCHES:
    medians = sides.alternate("benchmarks.decode", [str(batch)], args.rounds)
    for name, run in medians.items():
      rate = batch * NEW / run["generate_s"]
      print(f"batch {batch} {name}: {run['generate_s']:.2f} s, {rate:.0f} tokens/s")
    times = sides.ratio(medians, "generate_s")
    print(f"batch {batch}: {times:.2f}x the peer, wanted {WANTED}x", flush=True)


if __name__ == "__main__":
  main()
