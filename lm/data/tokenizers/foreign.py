"""Reads the tokenizer in a GGUF file."""

from pathlib import Path

from lm.data.tokenizers import builders, sentencepiece
from lm.disk.gguf import GgufFile
from lm.errors import Mistake


def is_in_gguf(file: Path) -> bool:
  """Returns True if a GGUF file has a tokenizer."""
  return "tokenizer.ggml.model" in GgufFile(file).fields


def read(file: Path):
  """(`tokenizers` object, config) of a GGUF file; Mistake when it is damaged."""
  fields = GgufFile(file).fields

  def field(key, default=None):
    return fields.get(f"tokenizer.{key}", default)

  texts, kind = field("ggml.tokens"), field("ggml.model")
  kinds = field("ggml.token_type", [sentencepiece.NORMAL] * len(texts or ()))
  if not texts or len(kinds) != len(texts):
    raise Mistake(f"{file} has no tokens, or not a type for each")
  if kind == "gpt2":
    split = field("ggml.pre", "gpt-2")
    if split not in builders.SPLITS:
      names = ", ".join(builders.SPLITS)
      raise Mistake(f"{file} splits words as {split!r} does; known: {names}")
    pairs = [tuple(pair.split(" ")) for pair in field("ggml.merges", [])]
    vocab = {text: i for i, text in enumerate(texts)}
    inner = builders.byte_level(
      vocab,
      pairs,
      *builders.SPLITS[split],
      ignore_merges=split == "llama-bpe",  # a word that is a token needs no merges
    )
    builders.add(inner, dict(zip(texts, kinds, strict=True)))
  elif kind == "llama":
    inner = builders.pieces(
      texts=texts,
      scores=field("ggml.scores"),
      kinds=kinds,
      model=sentencepiece.BPE,
      dummy_prefix=bool(field("ggml.add_space_prefix", True)),
      squeeze=False,
      charsmap=b"",
    )
    builders.add(inner, dict(zip(texts, kinds, strict=True)))
  else:
    raise Mistake(f"{file} has a tokenizer of kind {kind!r}; known: gpt2, llama")
  names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
  ids = {name: field(f"ggml.{key}_token_id") for name, key in names.items()}
  config = {f"{name}_token": texts[i] for name, i in ids.items() if i is not None}
  template = field("chat_template")
  config |= {"chat_template": template} if template else {}
  builders.surround(
    inner,
    config,
    begins=field("ggml.add_bos_token", kind == "llama"),
    ends=field("ggml.add_eos_token", False),
  )
  return inner, config
