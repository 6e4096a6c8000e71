"""Peers of benchmarks/accelerator.py: PyTorch's update, `transformers`' generate.

Training: benchmarks/torch_decoder.py under torch.compile, bfloat16 by autocast, fused
AdamW, flash attention by scaled_dot_product_attention. Decoding: `transformers`' Llama
with bfloat16 parameters and its default cache. Without CUDA the result is
{"absent": reason}, except in a rehearsal (--tiny), which runs on the CPU and compiles
without Inductor.
"""

import argparse
import importlib.util
import time

from benchmarks.accelerator_process import serve
from benchmarks.accelerator_shapes import FULL, Sizes, repeats, sizes


def results(case: str, tiny: bool):
  """Returns the results of a case: "decode" or a name in Sizes.trained."""
  needed = ["torch", "transformers"] if case == "decode" else ["torch"]
  missing = [name for name in needed if importlib.util.find_spec(name) is None]
  if missing:
    yield {"absent": f"{missing[0]} is not installed"}
    return
  import torch

  if not (tiny or torch.cuda.is_available()):
    yield {"absent": f"torch {torch.__version__} has no CUDA device here"}
    return
  torch.set_float32_matmul_precision("high")  # TF32, as jax has it on a GPU
  device = "cuda" if torch.cuda.is_available() else "cpu"
  if tiny:
    torch.set_num_threads(1)
  if case == "decode":
    yield from decoded(sizes(tiny), device)
  else:
    yield from trained(sizes(tiny), case, device)


def trained(sizes: Sizes, case: str, device: str):
  """Yields results like those of accelerator_train.py, with one form."""
  import torch

  from benchmarks.torch_decoder import Decoder

  fields, B, T = sizes.trained[case]
  fields = {key: fields[key] for key in ("vocab", "width", "layers", "heads", "ff")}
  model = Decoder(gpt2=case == "gpt2-124m", context=T, **fields).to(device)
  tx = torch.optim.AdamW(
    model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.01, fused=True
  )
  tokens_BT = torch.randint(fields["vocab"], (B, T), device=device)
  targets_BT = tokens_BT.roll(-1, 1)

  @torch.compile(backend="inductor" if device == "cuda" else "eager")
  def loss():
    with torch.autocast(device, torch.bfloat16):
      logits_BTV = model(tokens_BT)
    return torch.nn.functional.cross_entropy(
      logits_BTV.flatten(0, 1).float(), targets_BT.flatten()
    )

  def seconds(count):
    start = time.perf_counter()
    for _ in range(count):
      value = loss()
      value.backward()
      torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
      tx.step()
      tx.zero_grad(set_to_none=True)
    value.item()  # waits for the device
    return (time.perf_counter() - start) / count

  yield {"forms": ["compiled"]}
  compile_s = seconds(1)
  seconds(2)
  first_s = seconds(2)
  yield {
    "tokens": tokens_BT.numel(),
    "compile_s": compile_s,
    "memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
    "first_s": first_s,
  }
  while True:
    yield {"compiled": seconds(repeats(first_s, sizes.round_s))}


def decoded(sizes: Sizes, device: str):
  """Yields {} once the model is ready, then tokens/s by batch and round."""
  import torch
  from transformers import LlamaConfig, LlamaForCausalLM

  fields, new = sizes.decoded, sizes.new
  config = LlamaConfig(
    vocab_size=fields["vocab"],
    hidden_size=fields["width"],
    intermediate_size=fields["ff"],
    num_hidden_layers=fields["layers"],
    num_attention_heads=fields["heads"],
    tie_word_embeddings=False,
  )
  model = LlamaForCausalLM(config).eval().to(device, torch.bfloat16)

  @torch.inference_mode()
  def seconds(prompts_BT):
    start = time.perf_counter()
    ids_BT = model.generate(
      prompts_BT,
      attention_mask=torch.ones_like(prompts_BT),
      max_new_tokens=new,
      do_sample=False,
      eos_token_id=None,
      pad_token_id=0,
    )
    assert ids_BT.shape[1] == sizes.prompt + new
    ids_BT.cpu()  # waits for the device
    return time.perf_counter() - start

  yield {"ready": True}
  for batch in sizes.batches:
    prompts_BT = torch.randint(fields["vocab"], (batch, sizes.prompt), device=device)
    seconds(prompts_BT)
    for _ in range(sizes.rounds):
      yield {"tokens_per_s": batch * new / seconds(prompts_BT)}


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("case", choices=[*FULL.trained, "decode"])
  parser.add_argument("--tiny", action="store_true")
  args = parser.parse_args()
  serve(results(args.case, args.tiny))
