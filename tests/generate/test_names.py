"""Suffixes of names in lm/generate, compared with the shapes."""

import fakes
import suffixes

from lm.generate import stream


def test_suffixes_are_shapes():
  tokenizer = fakes.ByteTokenizer()
  model = fakes.small(fakes.UniformModel, vocab=tokenizer.size)
  options = dict(max_tokens=20, n=3, top_k=9, top_p=0.9, min_p=0.1, logprobs=True)
  with suffixes.checked("lm/generate/") as names:
    stream.generate(model, model.init(), tokenizer, ["abc", "d"], **options, stop="q")
    stream.search(model, model.init(), tokenizer, "abc", beams=3, max_tokens=5)
  assert {name.split(":")[0].split("/")[-1] for name in names} >= {
    "sample.py", "decode.py", "prompts.py", "stream.py", "beam.py"
  }  # fmt: skip
