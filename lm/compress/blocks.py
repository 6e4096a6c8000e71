"""The int8 and int4 blocks of a .gguf file as they are, rather than rounded anew.

Q8_0 and Q4_0 are numbers of ours too: lm/nn/quantised/int8_groups.py and int4.py. A
tensor of another kind, as the readout of most such files has, becomes an array.
"""

import dataclasses

from lm import compress, trees
from lm.errors import Mistake
from lm.stores.gguf import KEPT, GgufStore


@dataclasses.dataclass(frozen=True)
class Method(compress.Method):
  """All matrices that are such blocks."""

  def apply(self, subject):
    store = subject.store
    if not isinstance(store, GgufStore):
      raise Mistake(f"{store.path} is no .gguf file, whose blocks could be kept")
    kept = store.quantised(subject.places)
    if not kept:
      raise Mistake(f"{store.path} has no matrix in blocks of {' or '.join(KEPT)}")
    return subject.model, trees.nested(subject.leaves | kept)
