"""Peak memory of reading and writing models of any size."""

import json
import mmap
import tracemalloc

import jax
import numpy as np
import pytest
from hf_models import saved

from lm import stores, trees
from lm.disk.safetensors import NewFile, Tensor
from lm.letters import make_mesh, shardings
from lm.stores.hf import engine, export
from lm.stores.hf.folder import INDEX

LLAMA_70B = dict(D=8192, F=28_672, L=80, N=64, K=8, V=128_256)
SMALL = dict(D=512, F=1024, L=4, N=8, K=2, V=4096)
SHARDS = 3


def sparse(folder, *, D, F, L, N, K, V):
  """Writes a Llama of zeros in bfloat16, in sparse files; returns its store."""
  H = D // N
  shapes = {"model.embed_tokens": (V, D), "model.norm": (D,), "lm_head": (V, D)}
  for l in range(L):
    prefix = f"model.layers.{l}."
    shapes |= {f"{prefix}self_attn.{x}_proj": (N * H, D) for x in "q"}
    shapes |= {f"{prefix}self_attn.{x}_proj": (K * H, D) for x in "kv"}
    shapes |= {
      f"{prefix}self_attn.o_proj": (D, N * H),
      f"{prefix}mlp.down_proj": (D, F),
    }
    shapes |= {f"{prefix}mlp.{x}_proj": (F, D) for x in ("gate", "up")}
    shapes |= {f"{prefix}{x}_layernorm": (D,) for x in ("input", "post_attention")}
  names = [f"{name}.weight" for name in shapes]
  tensors = {n: Tensor("BF16", s) for n, s in zip(names, shapes.values(), strict=True)}
  files = {f"{i}.safetensors": names[i::SHARDS] for i in range(SHARDS)}
  for file, inside in files.items():
    with NewFile(folder / file, {name: tensors[name] for name in inside}):
      pass
  file_of_name = {name: file for file, inside in files.items() for name in inside}
  (folder / INDEX).write_text(json.dumps({"weight_map": file_of_name}))
  config = dict(
    model_type="llama",
    hidden_size=D,
    intermediate_size=F,
    num_hidden_layers=L,
    num_attention_heads=N,
    num_key_value_heads=K,
    vocab_size=V,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
  )
  (folder / "config.json").write_text(json.dumps(config))
  return stores.open(folder)


def expected_leaves(store, mesh):
  shapes, letters = stores.abstract(store.model)
  return trees.placed(shapes, shardings(mesh, letters, shapes))


def share_bytes(leaf) -> int:
  return 4 * int(np.prod(leaf.sharding.shard_shape(leaf.shape)))


@pytest.fixture
def peak():
  """Returns measured(run, *args): the peak of NumPy's memory, in bytes."""

  def measured(run, *args):
    tracemalloc.start()
    run(*args)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak_bytes

  return measured


def test_in_takes_one_share_above_the_model(tmp_path, monkeypatch, peak):
  """Bounds the peak by one device's share of the largest parameter."""
  store = sparse(tmp_path, **SMALL)
  leaves = expected_leaves(store, make_mesh(data=2, fsdp=2, tensor=2))
  device_put = jax.device_put

  def outside(share, device):
    """Puts a share onto a device whose memory is not the host's."""
    memory = mmap.mmap(-1, share.nbytes)
    outside_memory = np.frombuffer(memory, share.dtype).reshape(share.shape)
    outside_memory[...] = share
    return device_put(outside_memory, device)

  monkeypatch.setattr(jax, "device_put", outside)
  largest = max(share_bytes(leaf) for leaf in jax.tree.leaves(leaves))
  model = sum(4 * leaf.size for leaf in jax.tree.leaves(leaves))
  peak_bytes = peak(store.params, leaves)
  assert largest < peak_bytes < 1.5 * largest + 1_000_000 < model / 8


def test_a_model_of_70b_is_read_by_shares(tmp_path, peak):
  """Bounds the peak for 140 GB by one device's share of one layer."""
  store = sparse(tmp_path, **LLAMA_70B)
  assert sum(t.num_bytes for t in store.source.tensors.values()) > 141e9
  leaves = expected_leaves(store, make_mesh(data=1, fsdp=2, tensor=4))
  engine.check(store.mapping.tensors, store.source.tensors)
  leaf_of_path = trees.by_path(leaves)
  largest = max(map(share_bytes, leaf_of_path.values()))
  model = sum(4 * leaf.size for leaf in leaf_of_path.values())
  assert largest == share_bytes(leaf_of_path["blocks/layer/ff/up"]) < model / 8 / 3
  path = "blocks/layer/attention/k"
  leaf = leaf_of_path[path]
  index = leaf.sharding.addressable_devices_indices_map(leaf.shape)[jax.devices()[0]]
  layer = share_bytes(leaf) // LLAMA_70B["L"]
  index = (slice(7, 8), *index[1:])
  peak_bytes = peak(store.mapping.into, path, store.source.read, index)
  assert 2 * layer <= peak_bytes < 2.5 * layer + 100_000


def test_out_reads_one_parameter_at_a_time_and_none_twice(tmp_path):
  """Checks that parameters which were written before are not read at all."""
  _, folder = saved("qwen3")
  store = stores.open(folder)
  params = trees.by_path(stores.load(folder)[1])
  events = []

  class Leaf:
    def __init__(self, path):
      self.path, self.shape = path, params[path].shape

    def __array__(self, dtype=None, copy=None):
      events.append(self.path)
      return np.asarray(params[self.path])

  class Written(set):
    def add(self, item):
      events.append("done")
      super().add(item)

  leaves = jax.tree_util.tree_map_with_path(
    lambda path, _: Leaf(trees.path_name(path)), stores.abstract(store.model)[0]
  )
  written = Written()
  export.write(tmp_path, store.model, leaves, None, done=written)
  assert sorted(events[::2]) == sorted(params) and set(events[1::2]) == {"done"}
  events.clear()
  written.remove("blocks/layer/ff/up")
  export.write(tmp_path, store.model, leaves, None, done=written)
  assert events == ["blocks/layer/ff/up", "done"]
