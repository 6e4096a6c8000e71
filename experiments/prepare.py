"""Makes a config's data ready: sources -> cleaning -> tokenizer -> token shards.

  ./launch.sh prepare --config=configs/shakespeare.py

`train` does this by itself; alone it is for large data and to see the report.
"""

from experiments import cli, compose

_CONFIG = cli.config_flag()


def main():
  prepared = compose.data(_CONFIG.value)
  print(prepared.report)
  print(f"data: {prepared.folder}")


if __name__ == "__main__":
  cli.run(main, required=("config",))
