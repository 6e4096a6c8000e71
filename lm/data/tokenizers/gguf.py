"""Reads the tokenizer in a GGUF file as llama.cpp does (llama_vocab::impl::load)."""

from pathlib import Path

from lm.data.tokenizers import builders, ends, sentencepiece
from lm.disk.gguf import GgufFile
from lm.errors import Mistake

# Ways to split words that begin a text with bos unless `add_bos_token` decides, and
# whose merges do not apply to a word that is a token.
LLAMA_3 = ("llama-bpe", "llama3", "llama-v3", "falcon3")
# Other names of a way to split words in builders.SPLITS.
SAME_SPLIT = dict.fromkeys(LLAMA_3, "llama-bpe")
SAME_SPLIT |= {"deepseek-r1-qwen": "qwen2", "phi-2": "gpt-2", "refact": "starcoder"}
NAMES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
NAMES |= {"sep": "seperator", "cls": "cls", "mask": "mask"}  # spelt like that there
# Keys of ids that end a text, besides eos: of a turn, of a message, of infilling.
ENDS = ("eot", "eom", "fim_pad", "fim_rep", "fim_sep")
KINDS = range(sentencepiece.NORMAL, sentencepiece.BYTE + 1)
NO_TOKENIZER = "none"  # the kind of a model without one


def is_in(file: Path) -> bool:
  """Returns True if a GGUF file has a tokenizer."""
  kind = GgufFile(file).fields.get("tokenizer.ggml.model", NO_TOKENIZER)
  return kind not in (NO_TOKENIZER, "no_vocab")


def read(file: Path):
  """(`tokenizers` object, config) of a file; Mistake for one that is damaged."""
  fields = _Fields(file)
  texts, kind = fields.of("tokens", list), fields.of("model", str)
  kinds = fields.of("token_type", list, [sentencepiece.NORMAL] * len(texts or ()))
  if (
    not texts or len(kinds) != len(texts) or not all(isinstance(t, str) for t in texts)
  ):
    raise Mistake(f"{file} has no tokens, or not a type for each")
  if wrong := [k for k in kinds if k not in KINDS]:
    raise Mistake(f"{file} has {wrong[0]!r} for the type of a token; wanted 1 to 6")
  # An end of turn that a converter took for plain text would be written out.
  kinds = [
    sentencepiece.CONTROL if text in ends.TURN_ENDS else kind
    for text, kind in zip(texts, kinds, strict=True)
  ]
  begins = kind == "llama"
  if kind == "gpt2":
    split = fields.of("pre", str, "gpt-2")
    begins = split in LLAMA_3
    inner = _byte_level(fields, split, texts)
  elif kind == "llama":
    scores = fields.of("scores", list)
    if len(scores or ()) != len(texts):
      raise Mistake(f"{file} has no score for each of its {len(texts)} tokens")
    inner = builders.pieces(
      texts=texts,
      scores=scores,
      kinds=kinds,
      model=sentencepiece.BPE,
      dummy_prefix=fields.of("add_space_prefix", bool, True),
      squeeze=False,
      charsmap=b"",
    )
  else:
    raise Mistake(f"{file} has a tokenizer of kind {kind!r}; known: gpt2, llama")
  builders.add(inner, dict(zip(texts, kinds, strict=True)))
  config = _config(fields, texts)
  builders.surround(
    inner,
    config,
    begins=fields.of("add_bos_token", bool, begins),
    ends=fields.of("add_eos_token", bool, False),
  )
  return inner, config


def _byte_level(fields, split: str, texts: list):
  """The byte-level BPE of a file; Mistake for a way to split words that is unknown."""
  merges = fields.of("merges", list, [])  # an array has to have an element: ""
  pairs = [tuple(str(merge).split(" ")) for merge in merges if merge != ""]
  if wrong := [pair for pair in pairs if len(pair) != 2]:
    raise Mistake(
      f"{fields.file} has {' '.join(wrong[0])!r} for a merge; wanted two tokens"
    )
  name = SAME_SPLIT.get(split, split)
  if name not in builders.SPLITS:
    names = ", ".join((*builders.SPLITS, *SAME_SPLIT))
    raise Mistake(f"{fields.file} splits words as {split!r} does; known: {names}")
  vocab = {text: i for i, text in enumerate(texts)}
  try:
    return builders.byte_level(
      vocab, pairs, *builders.SPLITS[name], ignore_merges=split in LLAMA_3
    )
  except Exception as error:  # the library has no more specific class
    raise Mistake(f"{fields.file} has merges of other tokens: {error}") from error


def _config(fields, texts: list) -> dict:
  """Returns what tokenizer_config.json would be: special tokens, template, ends."""
  ids = {name: fields.id(key, texts) for name, key in NAMES.items()}
  config = {f"{name}_token": texts[i] for name, i in ids.items() if i is not None}
  stops = [fields.id(key, texts) for key in ENDS]
  if stops := sorted({i for i in stops if i is not None}):
    config[ends.KEY] = stops
  template = fields.values.get("tokenizer.chat_template")
  return config | ({"chat_template": template} if template else {})


class _Fields:
  """The keys of a file that begin with "tokenizer.ggml", read by type."""

  def __init__(self, file: Path):
    self.file, self.values = file, GgufFile(file).fields

  def of(self, key: str, kind: type, default=None):
    """Returns the value of a key; Mistake for one of another type."""
    value = self.values.get(f"tokenizer.ggml.{key}", default)
    if value is not None and not isinstance(value, kind):
      raise Mistake(
        f"{self.file} has {value!r} for tokenizer.ggml.{key}; wanted {kind.__name__}"
      )
    return value

  def id(self, key: str, texts: list) -> int | None:
    """Returns the id of `<key>_token_id`; Mistake for one that is no token's."""
    id = self.of(f"{key}_token_id", int)
    if id is not None and not 0 <= id < len(texts):
      raise Mistake(
        f"{self.file} has {id} for tokenizer.ggml.{key}_token_id; wanted 0 to "
        f"{len(texts) - 1}"
      )
    return id
