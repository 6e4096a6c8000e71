"""Makes a config's data ready: sources -> cleaning -> tokenizer -> token shards.

  ./launch.sh prepare --config=configs/shakespeare.py

`train` does this by itself; alone it is for large data and to see the report.
"""

from experiments import check, compose, process

_CONFIG = process.config_flag()


def main():
  cfg = _CONFIG.value
  check.keys(cfg)
  dataset = compose.data(cfg)
  for corpus in dataset.corpora:
    print((corpus.folder / "report.txt").read_text("utf-8"))
  print(f"data: {dataset.folder}")
  print(f"next: ./launch.sh train --config={process.config_file()}")


if __name__ == "__main__":
  process.run(main, required=("config",))
