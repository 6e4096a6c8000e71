"""Training steps of lm and of `transformers` under torch.compile: GPT-2, and BERT.

Run from the root of the repository: .venv/bin/python -m benchmarks.train_step
--shapes=bert-classes is the fine-tuning of BERT-base for two classes, of full rows.
The same shapes, AdamW and allocator setting; the peer also with plain malloc, and the
ratio is to its better run. FLOPs are those of our forward pass times three, for both
sides; the peak is that of a JAX matmul alone. All takes about 40 minutes on two cores.
"""

import argparse
import json
import statistics
import time

from benchmarks import sides

SHAPES = {  # a small one and GPT-2 124M
  "small": dict(batch=16, T=256, layers=6, width=384, heads=6, vocab=65),
  "gpt2-124m": dict(batch=2, T=512, layers=12, width=768, heads=12, vocab=50_304),
  "bert-classes": dict(batch=16, T=128, layers=12, width=768, heads=12, vocab=30_522),
}
ENCODERS = ("bert-classes",)  # the others are decoders
SECONDS, LEAST = 15, 6  # measure at least so long and so many steps
WANTED = {"float32": 1.3, "bfloat16": 1.0}


def measure(step) -> dict:
  """Returns the median seconds of step(), after three steps that do not count."""
  for _ in range(3):
    step()
  took_s, start = [], time.perf_counter()
  while len(took_s) < LEAST or time.perf_counter() - start < SECONDS:
    before = time.perf_counter()
    step()
    took_s.append(time.perf_counter() - before)
  return {"step_s": statistics.median(took_s)}


def ours(batch, T, vocab, *, dtype, encodes, **model):
  import jax
  import jax.numpy as jnp
  import numpy as np

  import lm
  from lm import platform
  from lm.letters import batch_shardings, make_mesh
  from lm.optim import Optim
  from lm.train import build

  fields = dict(dtype=dtype, scan=False) | model
  tokens_BT = np.random.default_rng(0).integers(0, vocab, (batch, T), np.int32)
  if encodes:
    fields |= dict(preset="bert-base", head="classes", classes=2, pooler=True)
    numbers = dict(label_B=np.arange(batch, dtype=np.int32) % 2)
    family, objective = "encoder", "classify"
  else:
    fields |= dict(preset="gpt2_124m")
    numbers = dict(targets_BT=np.roll(tokens_BT, -1, 1))
    numbers |= dict(weights_BT=np.ones(tokens_BT.shape, np.float32))
    family, objective = "decoder", "next_token"
  built, mesh = lm.model(family, vocab=vocab, **fields), make_mesh()
  batch = {"tokens_BT": tokens_BT} | numbers
  batch = jax.device_put(batch, batch_shardings(mesh, batch))
  adamw = Optim("adamw", lr=1e-4, schedule="constant", decay=0.01, clip=0.0)
  trainer = build(built, objective, adamw, mesh, batch=batch, num_steps=1000)
  step, root = trainer.step, jax.random.key(0)
  state = trainer.init(root)

  def update():
    nonlocal state
    state, metrics = step(state, batch, root)
    float(metrics["train/loss"])
    jax.block_until_ready(state)

  with jax.set_mesh(mesh):
    result = measure(update)

  def loss(params):
    return trainer.objective(built.apply, params, batch, root)["loss"][0]

  result["flops"] = platform.model_flops(loss, trainer.abstract.params)
  result["peak"] = platform.peak_flops(jax.devices()[0], jnp.dtype(dtype))
  return result


def peer(batch, T, vocab, *, dtype, encodes, **model):
  import torch

  tokens = torch.randint(vocab, (batch, T))
  labels = torch.arange(batch) % 2 if encodes else tokens.roll(-1, 1).flatten()
  model = (_bert if encodes else _gpt2)(vocab, **model).train()
  tx = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

  @torch.compile
  def loss():
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
      logits = model(input_ids=tokens).logits.flatten(0, -2)
      return torch.nn.functional.cross_entropy(logits.float(), labels)

  def update():
    value = loss()
    value.backward()
    tx.step()
    tx.zero_grad(set_to_none=True)
    value.item()

  return measure(update)


def _gpt2(vocab, *, layers, width, heads):
  from transformers import GPT2Config, GPT2LMHeadModel

  sizes = dict(vocab_size=vocab, n_layer=layers, n_embd=width, n_head=heads)
  off = dict(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False)
  return GPT2LMHeadModel(GPT2Config(**sizes, **off))


def _bert(vocab, *, layers, width, heads):
  from transformers import BertConfig, BertForSequenceClassification

  sizes = dict(vocab_size=vocab, num_hidden_layers=layers, hidden_size=width)
  sizes |= dict(num_attention_heads=heads, intermediate_size=4 * width)
  off = dict(hidden_dropout_prob=0, attention_probs_dropout_prob=0)
  return BertForSequenceClassification(BertConfig(**sizes, **off))


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("case", nargs="*", help="SIDE SHAPE DTYPE: one run, as JSON")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=SHAPES)
  args = parser.parse_args()
  if args.case:
    side, shape, dtype = args.case
    run, sizes = {"ours": ours, "peer": peer}[side], SHAPES[shape]
    print(json.dumps(run(**sizes, dtype=dtype, encodes=shape in ENCODERS)))
    return
  for dtype, expected in WANTED.items():
    for shape in args.shapes:
      medians = sides.alternate("benchmarks.train_step", [shape, dtype], args.rounds)
      report(f"{shape} {dtype}", medians, expected)


def report(title, medians, expected):
  work, peak = medians["ours"]["flops"], medians["ours"]["peak"]
  for name, run in medians.items():
    rate, step_ms = work / run["step_s"], run["step_s"] * 1e3
    print(
      f"{title} {name}: {step_ms:.0f} ms, {rate / 1e9:.0f} GFLOP/s, "
      f"{rate / peak:.0%} of the GEMM peak of {peak / 1e9:.0f}"
    )
  times = sides.ratio(medians, "step_s")
  print(f"{title}: {times:.2f}x the peer, wanted {expected}x", flush=True)


if __name__ == "__main__":
  main()
