"""Compares models on the same held-out items: which is better, and by how much.

./launch.sh compare --workdirs=runs/lstm,runs/llama
./launch.sh compare --workdirs=runs/minilm,runs/lstm --format=json
./launch.sh compare --workdirs=SmolLM2-135M,runs/mine --config=configs/shakespeare.py

Records of a task are compared one by one, language models document by document, in bits
per byte. Models that were not trained here need --config, which names the data.
"""

import functools
import itertools
import json
import sys

import jax
from absl import flags

from experiments import config, process, scored
from lm import stores
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.study import compare, items

config.flag("the data to compare them on; by default their own, if it is the same")
_WORKDIRS = process.workdirs_flag("runs, Hugging Face folders or .gguf files")
_FORMAT = flags.DEFINE_enum(
  "format", "text", ["text", "json"], "json: one object with all numbers"
)
NOTE = "The intervals are about these items; another seed of training differs as well."


def main():
  names = process.folders(_WORKDIRS)
  if len(names) < 2 or len(set(names)) < len(names):
    raise Mistake(f"--workdirs={','.join(names)}; wanted two models or more, each once")
  experiments = experiments_of(names)
  heldout = common(experiments)
  items_of = {name: checked(name, heldout) for name in names}
  scores_of = {name: scores(name, experiments[name], items_of[name]) for name in names}
  result = {"items": len(heldout.records), "of": heldout.about} | compared(scores_of)
  result["note"] = f"{heldout.note} {NOTE}".strip()
  print(json.dumps(result) if _FORMAT.value == "json" else text_of(result))


def experiments_of(names) -> dict:
  """Returns {model: the Experiment whose held-out items it is scored on}."""
  if config.is_given():
    return dict.fromkeys(names, config.experiment()[0])
  return {name: scored.trained(name) for name in names}


def common(experiments: dict) -> items.Items:
  """Returns the held-out items of all experiments; Mistake where they differ."""
  log, first, heldout = functools.partial(print, file=sys.stderr), "", None
  for name, experiment in experiments.items():
    own = heldout
    if heldout is None or experiment is not experiments[first]:
      own = items.of(experiment, log=log)
    first, heldout = first or name, heldout or own
    if own.records != heldout.records or bool(own.task) != bool(heldout.task):
      raise Mistake(
        f"{name} has other held-out items than {first} ({own.about}; {heldout.about}); "
        f"give the data to compare them on, as --config={config.SHOWN}"
      )
  return heldout


def checked(name: str, heldout) -> items.Items:
  """Returns the items for a model; a Mistake about it names the model."""
  try:
    return items.checked(heldout, stores.open(name))
  except Mistake as mistake:
    raise Mistake(f"{name} cannot be compared: {mistake}") from mistake


def scores(name: str, experiment, heldout) -> dict:
  """Returns {metric: Scores} of a model."""
  mesh = make_mesh(jax.local_devices()[:1])
  model, params, tokenizer = stores.load(name, mesh=mesh)
  seq = min(experiment.seq, model.config.context or experiment.seq)
  return items.scores(heldout, model, params, tokenizer, seq=seq)


def compared(scores_of: dict) -> dict:
  """Returns scores with their intervals, and the comparison of every two models."""
  names = list(scores_of)
  metrics = [m for m in scores_of[names[0]] if all(m in scores_of[n] for n in names)]
  rows, results = {}, []
  for metric in metrics:
    of = {name: scores_of[name][metric] for name in names}
    for name, own in of.items():
      low, high = compare.interval(own.values_R, own.weights_R)
      rows.setdefault(name, {})[metric] = {"score": own.mean, "95": [low, high]}
    for first, second in itertools.combinations(names, 2):
      values = (of[first].values_R, of[second].values_R, of[first].weights_R)
      results.append((metric, (first, second), compare.paired(*values)))
  corrected = compare.holm([result.p for *_, result in results])
  return {
    "scores": rows,
    "comparisons": [
      {"metric": metric, "first": pair[0], "second": pair[1]}
      | result._asdict()
      | {"p_corrected": p}
      | {
        "verdict": compare.verdict(
          pair, metric, result, p, less=scores_of[pair[0]][metric].less
        )
      }
      for (metric, pair, result), p in zip(results, corrected, strict=True)
    ],
  }


def text_of(result: dict) -> str:
  """Returns the result for people: the scores, and a verdict a line."""
  lines, width = [result["of"]], max(map(len, result["scores"]))
  for name, metrics in result["scores"].items():
    cells = []
    for metric, value in metrics.items():
      low, high = value["95"]
      unit = metric.replace("_", " ")
      cells.append(f"{unit} {value['score']:.4g} (95 %: {low:.4g} to {high:.4g})")
    lines.append(f"  {name:<{width}}  {'  '.join(cells)}")
  lines += [comparison["verdict"] for comparison in result["comparisons"]]
  count = len(result["comparisons"])
  if count > 1:
    lines.append(f"p-values are corrected for {count} comparisons (Holm).")
  return "\n".join([*lines, result["note"]])


if __name__ == "__main__":
  process.run(main, required=("workdirs",))
