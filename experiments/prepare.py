"""Prepares a config's data: sources -> cleaning -> tokenizer -> token shards.

  ./launch.sh prepare --config=configs/shakespeare.py

`train` prepares data too; this verb is for large data, and prints the report.
"""

from experiments import commands, config, process
from lm import data
from lm.errors import Mistake

config.flag()


def main():
  experiment, _ = config.experiment()
  if experiment.task:
    raise Mistake("the records of a task are prepared when it is trained; run train")
  dataset = data.prepare(experiment.data, seq=experiment.seq, engine=experiment.prepare)
  for corpus in dataset.corpora:
    print((corpus.folder / "report.txt").read_text("utf-8"))
  print(f"data: {dataset.folder}")
  print(f"next: {commands.again('train')}")


if __name__ == "__main__":
  process.run(main, required=("config",))
