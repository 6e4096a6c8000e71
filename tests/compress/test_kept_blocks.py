"""Method `blocks`: the numbers of a .gguf file to the bit, in the bytes that it has."""

import jax
import numpy as np
import pytest
from hf_models import saved

import lm
from lm import compress, stores, trees
from lm.disk.gguf import BLOCKS, GgufFile
from lm.nn import quantised
from lm.stores import compressed

TOKENS = np.arange(24).reshape(2, 12) * 7 % 64
KINDS = {"Q8_0": "int8_groups", "Q4_0": "int4"}


def blocky(tmp_path, kind: str):
  """Returns a file with random bytes for blocks, which no quantiser would choose."""
  path = tmp_path / "a.gguf"
  _, folder = saved("llama, tied, biases")
  stores.write(path, stores.open(folder), dtype=kind.lower())
  raw, draw, count = bytearray(path.read_bytes()), np.random.default_rng(0), 0
  file = GgufFile(path)
  for name, tensor in file.tensors.items():
    if file.kind(name) != kind:
      continue
    blocks = draw.integers(0, 256, (tensor.num_bytes // BLOCKS[kind], BLOCKS[kind]))
    blocks = blocks.astype(np.uint8)
    scales = draw.uniform(-0.02, 0.02, (len(blocks), 1)).astype(np.float16)
    blocks[:, :2] = scales.view(np.uint8)
    raw[tensor.start : tensor.start + tensor.num_bytes] = blocks.tobytes()
    count += 1
  assert count > 3
  path.write_bytes(raw)
  return path


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_they_are_kept_as_they_are(kind, tmp_path):
  store = stores.open(blocky(tmp_path, kind))
  model, params, _ = lm.load(store.path)
  subject = compress.Subject(model, params, store=store)
  small, kept = compress.make("blocks").apply(subject)
  compressed.write(tmp_path / "run", store, small, kept)
  again, kept, _ = lm.load(tmp_path / "run")
  leaves = trees.by_path(kept, is_leaf=quantised.is_quantised)
  expected = trees.by_path(params)
  kinds = {quantised.name_of(w) for w in leaves.values() if quantised.is_quantised(w)}
  assert kinds == {KINDS[kind], "int8_groups"}  # which is what a readout has
  for path, leaf in leaves.items():
    np.testing.assert_array_equal(np.asarray(leaf), np.asarray(expected[path]))
  logits = again.apply({"params": kept}, TOKENS)[0]
  np.testing.assert_allclose(
    logits, model.apply({"params": params}, TOKENS)[0], 0, 1e-4
  )
  size = sum(x.nbytes for x in jax.tree.leaves(leaves["blocks/layer/ff/up"]))
  assert size * 32 == expected["blocks/layer/ff/up"].size * BLOCKS[kind]


def test_what_has_none_is_refused(tmp_path):
  _, folder = saved("llama, tied, biases")
  path = tmp_path / "a.gguf"
  stores.write(path, stores.open(folder))
  for source, line in ((folder, "is no .gguf file"), (path, "no matrix in blocks of")):
    model, params, _ = lm.load(source)
    subject = compress.Subject(model, params, store=stores.open(source))
    with pytest.raises(ValueError, match=line):
      compress.make("blocks").apply(subject)
