"""Quality against bytes and speed, of a model and of what `compress` makes of it.

Run from the root of the repository:
  .venv/bin/python -m benchmarks.frontier --workdir=SmolLM2-135M \
    --config=configs/shakespeare.py --methods=int8,int4,gptq --folder=runs/frontier

Each method's folder is made once, and scored once by the verbs themselves: on the
held-out text of --config, or by --tasks alone. Then all forms decode in turn, greedily,
a prompt of 32 tokens and 64 new ones; the prompt's time is included. "float32" is the
model itself, and "bfloat16" its parameters cast, which is not scored.
A share is that of the machine's read bandwidth, measured in the same rounds: the bytes
of the parameters that each token reads, a second. In the folder: results.jsonl, a line
of JSON for each form; table.md, and frontier.png with an interval of 95 %.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

PROMPT, NEW = 32, 64
BATCHES = (1, 16)
SIGMAS = 1.96  # of an interval of 95 %
QUALITY = ("bits_per_byte", "acc", "exact_match")  # what a picture shows of a score


def verb(name: str, *flags) -> str:
  """Returns the output of a verb."""
  command = [sys.executable, "-m", f"experiments.{name}", *flags]
  return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def folders(args) -> dict:
  """Returns {form: folder}, of the model itself and of each method."""
  source = [f"--workdir={args.workdir}"]
  config = [f"--config={args.config}"] if args.config else []
  result = {"float32": args.workdir, "bfloat16": args.workdir}
  for method in filter(None, args.methods.split(",")):
    target = pathlib.Path(args.folder) / method
    if not target.exists():
      verb("compress", *source, f"--out={target}", f"--method={method}", *config)
    result[method] = str(target)
  return result


def scores(form: str, folder: str, args) -> dict:
  """Returns the metrics of a folder, kept in a file of --folder."""
  file = pathlib.Path(args.folder) / f"{form}.json"
  if not file.exists():
    flag = f"--tasks={args.tasks}" if args.tasks else f"--config={args.config}"
    file.write_text(verb("evaluate", f"--workdir={folder}", flag))
  return json.loads(file.read_text())


def bandwidth() -> float:
  """Returns the bytes a second at which both cores read memory."""
  import jax
  import jax.numpy as jnp

  x = jnp.ones((2**28,), jnp.float32)
  total = jax.jit(jnp.sum)
  total(x).block_until_ready()
  before = time.perf_counter()
  total(x).block_until_ready()
  return x.nbytes / (time.perf_counter() - before)


def speeds(forms: dict, rounds: int) -> dict:
  """Returns {form: {batch: tokens/s, "bytes": ...}} of forms that take turns."""
  import numpy as np

  import lm
  from lm import compress
  from lm.generate import decode

  def generator(form: str, folder: str):
    options = {"dtype": "bfloat16"} if form == "bfloat16" else {}
    model, params, _ = lm.load(folder, scan=False, **options)
    num_bytes, draw = compress.num_bytes(params), np.random.default_rng(0)
    params = decode.prepare_params(model, params)
    prompts = draw.integers(0, model.config.vocab, (max(BATCHES), PROMPT), np.int32)

    room = (model.config.context or PROMPT + NEW) - PROMPT
    new = min(NEW, room)

    def generate(batch):
      decode.generate(model, params, list(prompts[:batch]), max_tokens=new)

    return generate, num_bytes, new

  made = {form: generator(form, folder) for form, folder in forms.items()}
  times = {(form, batch): [] for form in made for batch in BATCHES}
  rates = []
  for number in range(rounds + 1):
    rates.append(bandwidth())
    for (form, batch), took_s in times.items():
      before = time.perf_counter()
      made[form][0](batch)
      if number:
        took_s.append(time.perf_counter() - before)
  result, limit = {}, statistics.median(rates)
  for form, (_, num_bytes, new) in made.items():
    rate = {b: b * new / statistics.median(times[form, b]) for b in BATCHES}
    share = rate[1] * num_bytes / limit
    names = {f"tokens_per_s_{batch}": value for batch, value in rate.items()}
    result[form] = {"bytes": num_bytes, "share_of_bandwidth": share} | names
  return result


def shown(results: dict) -> list[str]:
  """Returns the names of scores that tables and pictures show, and that all share."""
  scored = [numbers for form, numbers in results.items() if form != "bfloat16"]
  names = [name for name in scored[0] if name.rpartition("/")[2] in QUALITY]
  return [name for name in names if all(name in numbers for numbers in scored)]


def interval(numbers: dict, name: str) -> float:
  """Returns half of the interval of 95 % of a score, 0 where it has no error."""
  return SIGMAS * numbers.get(f"{name}_stderr", 0.0)


def table(results: dict) -> str:
  """Returns a Markdown table, a row for each form."""
  scores_shown = shown(results)
  names = [name.replace("pack_", "").replace("_", " ") for name in scores_shown]
  heads = ["form", "MB", "tokens/s alone", f"{max(BATCHES)} at once", *names]
  rows = [heads, ["---"] * len(heads)]
  for form, numbers in results.items():
    speeds_shown = [f"{numbers[f'tokens_per_s_{batch}']:.0f}" for batch in BATCHES]
    of_form = [
      f"{numbers[name]:.3f} ± {interval(numbers, name):.3f}" if name in numbers else ""
      for name in scores_shown
    ]
    rows.append([form, f"{numbers['bytes'] / 1e6:.0f}", *speeds_shown, *of_form])
  return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def draw(results: dict, path: pathlib.Path):
  """Writes a picture: each score against bytes and against tokens a second alone."""
  from matplotlib import colormaps

  from lm.study import figures

  spent = {"megabytes of parameters": "bytes", "tokens/s alone": "tokens_per_s_1"}
  names = shown(results)
  picture = figures.figure(9.6, 3.4 * len(names))
  axes = picture.subplots(len(names), 2, sharey="row", squeeze=False)
  scored = {form: numbers for form, numbers in results.items() if form != "bfloat16"}
  for row, name in zip(axes, names, strict=True):
    for axis, (label, field) in zip(row, spent.items(), strict=True):
      for i, (form, numbers) in enumerate(scored.items()):
        x = numbers[field] / (1e6 if field == "bytes" else 1)
        style = dict(fmt="o", color=colormaps["tab10"](i % 10), capsize=3, label=form)
        axis.errorbar(x, numbers[name], interval(numbers, name), **style)
      axis.set_xlabel(label)
      figures.tidy(axis)
    row[0].set_ylabel(name.replace("pack_", "").replace("_", " "))
  axes[0][1].legend(
    frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5)
  )
  figures.save(picture, path)


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", required=True)
  parser.add_argument("--config", default="")
  parser.add_argument("--tasks", default="", help="such as pack:text_en,pack:science")
  parser.add_argument("--methods", default="int8,int8_dynamic,int4,nf4,fp8,gptq,awq")
  parser.add_argument("--folder", default="runs/frontier")
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  pathlib.Path(args.folder).mkdir(parents=True, exist_ok=True)
  forms = folders(args)
  results = {
    form: {} if form == "bfloat16" else scores(form, folder, args)
    for form, folder in forms.items()
  }
  for form, numbers in speeds(forms, args.rounds).items():
    results[form] |= numbers
  folder = pathlib.Path(args.folder)
  lines = [json.dumps({"form": form} | numbers) for form, numbers in results.items()]
  (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
  (folder / "table.md").write_text(table(results))
  draw(results, folder / "frontier.png")
  print(table(results), end="")


if __name__ == "__main__":
  main()
