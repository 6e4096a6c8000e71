"""Compares runs in a table and a picture: their scores by FLOPs, time, parameters.

./launch.sh report --workdirs=runs/lstm,runs/llama,runs/mamba2 --out=runs/families
"""

from pathlib import Path

from absl import flags

from experiments import process
from lm.study import report, runs

_WORKDIRS = flags.DEFINE_list(
  "workdirs", None, "the runs' folders, separated by commas"
)
_OUT = flags.DEFINE_string("out", "runs/report", "writes OUT.md, OUT.png, OUT.html")


def main():
  results = [runs.read(path) for path in _WORKDIRS.value]
  table, picture = report.table(results), Path(f"{_OUT.value}.png")
  picture.parent.mkdir(parents=True, exist_ok=True)
  report.draw(results, picture)
  markdown, page = (Path(f"{_OUT.value}.{kind}") for kind in ("md", "html"))
  markdown.write_text(f"{table}\n", encoding="utf-8")
  page.write_text(report.page(results, picture.read_bytes()), encoding="utf-8")
  print(f"{table}\n\nresults: {markdown} {picture} {page}")


if __name__ == "__main__":
  process.run(main, required=("workdirs",))
