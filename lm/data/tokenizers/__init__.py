"""Text to ids and back: bytes, byte-level BPE or words learnt here, or a foreign file.

    tokenizer = tokenizers.make("bpe-4096", texts)
    tokenizer.decode(tokenizer.encode("Once upon a time"))

All are one class over the `tokenizers` library; "bytes" is a BPE without merges, in
which the id of a byte is the byte. `encode` never gives a special id: "<|endoftext|>"
in a document is thirteen characters like any others. "bytes" and "bpe-N" have no
normaliser and no prefix space, so that `decode(encode(text)) == text` for every string
that UTF-8 can encode.
"""

from lm import lookup
from lm.data.tokenizers import bpe, files
from lm.data.tokenizers.bpe import END, PAD, UNKNOWN
from lm.data.tokenizers.bpe import byte_of_char as byte_of_char
from lm.data.tokenizers.tokenizer import Tokenizer
from lm.disk import paths
from lm.errors import Mistake

# Special tokens of a foreign tokenizer.json without a tokenizer_config.json beside it:
# the first of these texts that is in its vocabulary.
USUAL_SPECIALS = {
  "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "[CLS]", "<|startoftext|>", END),
  "eos_token": (END, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]"),
  "pad_token": (PAD, "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>"),
  "unk_token": (UNKNOWN, "<unk>", "[UNK]"),
}
VERSION = 1  # raise it when a tokenizer learns or encodes anything otherwise
# Files of tokenizers that are learnt: of names such as "bpe-2048" and "words-20000".
LEARNT = {"bpe": "bpe", "words": "word_level"}


def _with_specials(inner) -> Tokenizer:
  """The tokenizer of a learnt `inner`, with END (as bos and eos) and PAD added."""
  inner.add_special_tokens([END, PAD])  # no change where they exist
  config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "pad_token": PAD,
    "clean_up_tokenization_spaces": False,
  }
  unknown = inner.token_to_id(UNKNOWN)
  return Tokenizer(
    inner, config if unknown is None else config | {"unk_token": UNKNOWN}
  )


def byte_tokenizer() -> Tokenizer:
  """Ids 0 to 255 are the bytes, 256 ends a document (and starts one), 257 pads."""
  return _with_specials(bpe.without_merges())


def load(path) -> Tokenizer:
  """The tokenizer of a folder with a tokenizer.json, or of a file; see files.py.

  Special tokens are those of tokenizer_config.json beside it, else USUAL_SPECIALS.
  Raises Mistake when there is no such file or it cannot be read.
  """
  file = files.find(paths.local(path))
  if file is None:
    raise Mistake(f"no tokenizer at {path}; give a tokenizer.json or its folder")
  inner, config = files.read(file)
  for name, candidates in USUAL_SPECIALS.items():
    if name not in config:
      existing = [t for t in candidates if inner.token_to_id(t) is not None]
      config[name] = existing[0] if existing else None
  return Tokenizer(inner, config)


def make(name: str, texts) -> Tokenizer:
  """The tokenizer of a name: "bytes", "bpe-N", "words-N", or the path of one.

  "bpe-N" and "words-N" are learnt from `texts`, a sequence of strings. Raises Mistake
  as `check` and `load` do.
  """
  if name == "bytes":
    return byte_tokenizer()
  if recipe := learnt(name):
    kind, size = recipe
    return _with_specials(lookup.find(__name__, LEARNT[kind]).learn(texts, size))
  return load(name)


def learnt(name: str) -> tuple[str, int] | None:
  """("bpe", N) of "bpe-N", ("words", N) of "words-N"; None for other tokenizers.

  Raises Mistake for a name that is neither one of these, nor "bytes", nor an existing
  path.
  """
  kind, size = lookup.numbered(name)
  if kind in LEARNT and size is not None:
    return kind, size
  if name != "bytes" and not paths.local(name).exists():
    raise Mistake(
      f"no tokenizer {name!r}; it is bytes, bpe-N (such as bpe-2048), words-N or the "
      "path of a tokenizer.json"
    )
  return None


def check(name: str):
  """Raises Mistake for a name that `make` has no tokenizer for; learns nothing."""
  if recipe := learnt(name):
    kind, size = recipe
    lookup.find(__name__, LEARNT[kind]).check_size(size)


def identity(name: str) -> str:
  """Returns the name of a learnt tokenizer, the digest of a file: they fix the ids."""
  return name if name == "bytes" or learnt(name) else load(name).digest
