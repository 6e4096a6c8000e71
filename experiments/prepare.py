"""Makes a config's data ready: sources -> cleaning -> tokenizer -> token shards.

  ./launch.sh prepare --config=configs/shakespeare.py

`train` does this by itself; alone it is for large data and to see the report.
"""

from experiments import check, compose, process
from lm.data.corpus.mixture import Mixture

_CONFIG = process.config_flag()


def main():
  cfg = _CONFIG.value
  check.keys(cfg)
  prepared = compose.data(cfg)
  for part in prepared if isinstance(prepared, Mixture) else [prepared]:
    print((part.folder / "report.txt").read_text("utf-8"))
  print(f"data: {prepared.folder}")
  print(f"next: ./launch.sh train --config={process.config_file()}")


if __name__ == "__main__":
  process.run(main, required=("config",))
