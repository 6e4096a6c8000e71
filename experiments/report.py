"""Compares runs in a table and a picture: their scores by FLOPs, time, parameters.

./launch.sh report --workdirs=runs/lstm,runs/llama,runs/mamba2 --out=runs/families
"""

from absl import flags

from experiments import process
from lm.disk import paths
from lm.study import report, runs

_WORKDIRS = flags.DEFINE_list(
  "workdirs", None, "the runs' folders, separated by commas"
)
_OUT = flags.DEFINE_string("out", "runs/report", "writes OUT.md and OUT.png")


def main():
  picture = paths.local(f"{_OUT.value}.png")
  results = [runs.read(path) for path in _WORKDIRS.value]
  table = report.table(results)
  picture.parent.mkdir(parents=True, exist_ok=True)
  report.draw(results, picture)
  markdown = paths.local(f"{_OUT.value}.md")
  markdown.write_text(f"{table}\n", encoding="utf-8")
  print(f"{table}\n\nresults: {markdown} {picture}")


if __name__ == "__main__":
  process.run(main, required=("workdirs",))
