"""Compares runs in a table and a picture: bits per byte by FLOPs, time, parameters.

./launch.sh report --workdirs=runs/lstm,runs/llama,runs/mamba2 --out=runs/families
"""

from pathlib import Path

from absl import flags

from experiments import process
from lm.study import runs

_WORKDIRS = flags.DEFINE_list(
  "workdirs", None, "the runs' folders, with commas between"
)
_OUT = flags.DEFINE_string("out", "runs/report", "writes OUT.md and OUT.png")


def main():
  results = [runs.read(path) for path in _WORKDIRS.value]
  picture, table = Path(f"{_OUT.value}.png"), Path(f"{_OUT.value}.md")
  table.parent.mkdir(parents=True, exist_ok=True)
  runs.draw(results, picture)
  table.write_text(runs.table(results) + "\n", encoding="utf-8")
  print(f"{table.read_text('utf-8')}\nresults: {table} {picture}")


if __name__ == "__main__":
  process.run(main, required=("workdirs",))
