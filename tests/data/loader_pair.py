"""One of two processes of a run: python loader_pair.py PORT INDEX SOURCE CACHE.

Prints one JSON list a step: the rows that this process read, the shards that it holds
({first row: values}), and the digest of the global batch.
"""

import json
import sys

import jax
import numpy as np

from lm.data import Data, Rows, loader, prepare
from lm.letters import make_mesh


def main(port, index, source, cache):
  jax.config.update("jax_num_cpu_devices", 2)
  jax.distributed.initialize(f"localhost:{port}", 2, int(index))
  dataset = prepare(Data(source=source, cache=cache), seq=16, log=lambda line: None)
  rows = Counted(dataset.rows("train", 16))
  load = loader.Loader(rows, batch=8, seed=3, mesh=make_mesh(data=4))
  for step in (0, 5):
    rows.read.clear()
    batch = load(step)["tokens_BT"]
    read_rows = list(rows.read)
    shards = {
      str(shard.index[0].start): np.asarray(shard.data).tolist()
      for shard in batch.addressable_shards
    }
    print(json.dumps([read_rows, shards, load.digest(step)]), flush=True)


class Counted(Rows):
  """Rows that list the indices read in `read`."""

  def __init__(self, rows):
    self._rows, self.read = rows, []

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, index):
    self.read.append(int(index))
    return self._rows[index]

  def padding(self):
    return self._rows.padding()


if __name__ == "__main__":
  main(*sys.argv[1:])
