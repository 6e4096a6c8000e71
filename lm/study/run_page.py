"""One run as a page of HTML: what was trained, how well it does, and where it fails.

The page shows what a person looks at: curves, scores with intervals, and for a
classifier its confusions, worst answers, attributions and attention (class_sections),
for a language model its worst texts and the loss of each token (text_sections).
"""

import io

from lm import log
from lm.study import checks, class_sections, curves, text_sections
from lm.study.html import document, note, picture, section, table, tag

SECTIONS = {"classes": class_sections.sections, "text": text_sections.sections}


def page(result, subject, folder, commands) -> str:
  """Returns the page of a run.

  Args:
    result: its lm.study.runs.Result.
    subject: the checks.Subject with its model and held-out items.
    folder: its lm.stores.RunFolder.
    commands: {what it does: a command to paste}.
  """
  parts = [header(result, folder, commands), picture_of(folder), metrics(folder)]
  if subject.items.task and not subject.kind:
    parts.append(class_sections.scores(subject))
  if subject.kind:
    parts += SECTIONS[subject.kind](subject)
    rows = checks.run(checks.resolved([checks.ALL], subject), subject)
    parts.append(section("Checks", table(checks.HEADINGS, checks.cells(rows))))
  return document(result.name, *parts, settings(result.config))


def header(result, folder, commands):
  """Returns the name of a run, what it is, and the commands for it."""
  facts = [
    ("model", f"{result.family}, {result.objective}"),
    ("trained on", ", ".join(sources(result.config))),
    ("parameters", f"{result.parameters:,}"),
    ("tokens seen", f"{result.tokens:,}"),
    ("training", f"{result.flops:.2g} FLOPs, {result.seconds:,.0f} s"),
    ("held out", f"{result.score:.4g} {result.unit}"),
    ("folder", folder.path),
  ]
  lines = [(what, tag("code", command)) for what, command in commands.items()]
  return tag("header", tag("h1", result.name), table(("", ""), facts + lines))


def sources(config: dict) -> list[str]:
  """Returns the names of what the run of a config was trained on."""
  if config.get("task"):
    return [config["task"]["train"]]
  source = config.get("data", {}).get("source", "")
  return [source] if isinstance(source, str) else list(source)


def picture_of(folder):
  """Returns the curves of a run."""
  file = io.BytesIO()
  curves.draw(folder.metrics_file, file)
  image = picture(file.getvalue(), "metrics over the steps of training", class_="paper")
  return section("Curves", image)


def metrics(folder):
  """Returns the table of the metrics of the last evaluation while training."""
  last = [row for row in log.read(folder.metrics_file) if "train/flops" not in row]
  values = [(k.removeprefix("eval/"), v) for k, v in last[-1].items() if "eval/" in k]
  named = [(name.replace("_", " "), float(value)) for name, value in values]
  line = note(f"Held out, at step {last[-1]['step']:,}, while training.")
  return section("The last evaluation", table(("metric", "value"), named), line)


def settings(config: dict):
  """Returns the resolved config of a run, folded."""
  rows = [(name, repr(value)) for name, value in _flat(config)]
  folded = tag("details", tag("summary", "all values"), table(("value", "is"), rows))
  return section("Config", folded)


def _flat(tree: dict, prefix=""):
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value
