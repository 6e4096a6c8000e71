"""Compares runs in a table and a picture: their scores by FLOPs, time, parameters.

./launch.sh report --workdirs=runs/lstm,runs/llama,runs/mamba2 --out=runs/families
"""

from absl import flags

from experiments import process
from lm.disk import paths
from lm.study import report, runs

_WORKDIRS = process.workdirs_flag()
_OUT = flags.DEFINE_string("out", "runs/report", "writes OUT.md, OUT.png, OUT.html")


def main():
  picture = paths.local(f"{_OUT.value}.png")
  results = [runs.read(path) for path in process.folders(_WORKDIRS)]
  table = report.table(results)
  picture.parent.mkdir(parents=True, exist_ok=True)
  report.draw(results, picture)
  markdown, page = (paths.local(f"{_OUT.value}.{kind}") for kind in ("md", "html"))
  markdown.write_text(f"{table}\n", encoding="utf-8")
  page.write_text(report.page(results, picture.read_bytes()), encoding="utf-8")
  print(f"{table}\n\nresults: {markdown} {picture} {page}")


if __name__ == "__main__":
  process.run(main, required=("workdirs",))
