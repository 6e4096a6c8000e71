"""Reports runs: one as a page to look at, several in a table and a picture.

./launch.sh report --workdirs=runs/shakespeare
./launch.sh report --workdirs=runs/lstm,runs/llama,runs/mamba2 --out=runs/families

The page of one run has its curves, scores with intervals, checks, worst texts and, of a
classifier, confusions, calibration, attributions and attention. It is one file.
"""

from absl import flags

from experiments import commands, process, scored
from lm import stores
from lm.disk import paths
from lm.stores.run import RunFolder
from lm.study import report, runs

_WORKDIRS = process.workdirs_flag()
_OUT = flags.DEFINE_string("out", "runs/report", "writes OUT.md, OUT.png, OUT.html")


def main():
  picture = paths.local(f"{_OUT.value}.png")
  folders = process.folders(_WORKDIRS)
  results = [runs.read(path) for path in folders]
  table = report.table(results)
  page = page_of(folders[0], results[0]) if len(results) == 1 else ""
  picture.parent.mkdir(parents=True, exist_ok=True)
  report.draw(results, picture)
  page = page or report.page(results, picture.read_bytes())
  markdown, html = (paths.local(f"{_OUT.value}.{kind}") for kind in ("md", "html"))
  markdown.write_text(f"{table}\n", encoding="utf-8")
  html.write_text(page, encoding="utf-8")
  print(f"{table}\n\nresults: {markdown} {picture} {html}")


def page_of(path, result) -> str:
  """Returns the page of one run, for which its model reads the held-out items."""
  from lm.study import checks, items, run_page

  folder, experiment = RunFolder(path), scored.trained(path)
  model, params, tokenizer = stores.load(path)
  heldout = items.Items("", [])
  if experiment.task or experiment.objective == "next_token":
    heldout = items.of(experiment, log=lambda line: None)
  subject = checks.Subject(model, params, tokenizer, experiment, heldout)
  lines = {"score it": commands.command("evaluate", workdir=folder.path)}
  if generate := commands.generate(stores.open(path), ""):
    lines["try it"] = generate
  if folder.command_file.is_file():
    trained = folder.command_file.read_text(encoding="utf-8").strip()
    lines = {"trained by": trained} | lines
  return run_page.page(result, subject, folder, lines)


if __name__ == "__main__":
  process.run(main, required=("workdirs",))
