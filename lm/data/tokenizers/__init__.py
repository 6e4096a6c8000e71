"""Text to ids and back: bytes, byte-level BPE trained here, or any tokenizer.json.

All of them are one class over the `tokenizers` library; "bytes" is a BPE without merges
whose id of a byte is the byte. Text never turns into a special id: "<|endoftext|>" in a
document is thirteen characters like any others. Ours have no normaliser and no prefix
space, so `decode(encode(text)) == text` for every string that UTF-8 can write.
"""

import functools
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np

from lm import lookup
from lm.data.tokenizers import bpe, builders, files, word_level
from lm.data.tokenizers.bpe import END, PAD, byte_of_char
from lm.disk.atomic import write_atomically
from lm.errors import Mistake

# Names under which a foreign tokenizer.json may keep its special tokens, when no
# tokenizer_config.json beside it says so. The more telling names come first.
KNOWN = {
  "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "[CLS]", "<|startoftext|>", END),
  "eos_token": (END, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]"),
  "pad_token": (PAD, "<pad>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>"),
  "unk_token": (word_level.UNKNOWN, "<unk>", "[UNK]"),
}
VERSION = 1  # raise it when a tokenizer learns or encodes anything otherwise
# Tokenizers that are learnt from the text: names such as "bpe-2048" and "words-20000".
LEARNT = {"bpe": bpe, "words": word_level}


class Tokenizer:
  """Ids of a text and back; `bos`, `eos`, `pad` and `unk` are ids, or None.

  `inner` is a `tokenizers.Tokenizer`; `config` is what stands beside it in Hugging
  Face's tokenizer_config.json, and is saved unchanged.
  """

  def __init__(self, inner, config: dict):
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True  # special-looking text stays text
    self._inner, self._config = inner, config
    self._spec = json.loads(inner.to_str())
    self.size = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    self.bos = self._special("bos_token")
    self.eos = self._special("eos_token")
    self.pad = self._special("pad_token")
    self.unk = self._special("unk_token")

  def _special(self, name: str):
    value = self._config.get(name)
    text = value["content"] if isinstance(value, dict) else value
    return None if text is None else self._inner.token_to_id(text)

  def id(self, text: str) -> int:
    """The id of the token with this text; Mistake when there is none."""
    found = self._inner.token_to_id(text)
    if found is None:
      raise Mistake(f"the tokenizer has no token {text!r}")
    return found

  def text_of_id(self, id: int) -> str:
    """How the vocabulary writes an id ("##ing"); "" where it has none."""
    return self._inner.id_to_token(id) or ""

  def extended(self, names) -> "Tokenizer":
    """This tokenizer with special tokens of these names, behind all others if new."""
    inner = type(self._inner).from_str(self._inner.to_str())
    inner.add_special_tokens([n for n in names if inner.token_to_id(n) is None])
    return Tokenizer(inner, self._config)

  @functools.cached_property
  def byte_level(self) -> bool:
    decoder = self._spec["decoder"] or {"type": ""}
    steps = decoder.get("decoders", [decoder])  # of a sequence, or the one
    return any(step["type"] == "ByteLevel" for step in steps)

  @functools.cached_property
  def _plain_bytes(self) -> bool:
    """Whether the id of a byte is the byte, and there are no merges."""
    vocab = self._spec["model"].get("vocab")
    merges = self._spec["model"].get("merges")
    return merges == [] and vocab == byte_of_char()

  @functools.cached_property
  def _splits_words(self) -> bool:
    """Whether words end where bpe.WORD_ENDS says: GPT-2's pattern and no more."""
    words = self._spec["pre_tokenizer"] or {}
    return (
      self._spec["normalizer"] is None
      and words.get("type") == "ByteLevel"
      and words["use_regex"]
      and not words["add_prefix_space"]
      and all(token["special"] for token in self._spec["added_tokens"])
    )

  def encode(self, text: str) -> np.ndarray:
    """The int32 ids of `text`, without bos or eos.

    Raises Mistake (UnicodeEncodeError) for a lone surrogate, which has no UTF-8.
    """
    return self.encode_batch([text])[0]

  def encode_batch(self, texts) -> list[np.ndarray]:
    """The ids of each text, on all cores."""
    texts = list(texts)
    if self._plain_bytes:
      return [np.frombuffer(t.encode(), np.uint8).astype(np.int32) for t in texts]
    if self._splits_words:
      return self._encode_by_word(texts)
    return [np.array(ids, np.int32) for ids in self._ids(texts)]

  def _encode_by_word(self, texts) -> list[np.ndarray]:
    """Encodes each different word once: twice as fast as all of them, the same ids."""
    table, words = {}, []
    for text in texts:
      found = (table.setdefault(word, len(table)) for word in bpe.WORD_ENDS.split(text))
      words.append(np.fromiter(found, np.int64))
    ids_of_word = self._ids(list(table))
    num_ids = np.fromiter(map(len, ids_of_word), np.int64, len(table))
    flat = np.fromiter(itertools.chain.from_iterable(ids_of_word), np.int32)
    start = np.cumsum(num_ids) - num_ids
    out = []
    for word in words:
      num = num_ids[word]
      end = np.cumsum(num)
      # Within each word count 0, 1, ..., from where its ids start in `flat`.
      out.append(flat[np.arange(num.sum()) + np.repeat(start[word] - end + num, num)])
    return out

  def _ids(self, texts) -> list[list[int]]:
    try:
      coded = self._inner.encode_batch_fast(texts, add_special_tokens=False)
    except TypeError:  # the library says only "must be str"; Python names the culprit
      for text in texts:
        text.encode()
      raise
    return [one.ids for one in coded]

  def prompt(self, text: str) -> np.ndarray:
    """The ids of `text` as a model is to go on from it, or to read it.

    That is with what the tokenizer itself puts around a text: Llama's bos, BERT's [CLS]
    and [SEP], T5's eos; ours put nothing.
    """
    return np.array(self._inner.encode(text, add_special_tokens=True).ids, np.int32)

  def marked(self, text: str) -> np.ndarray:
    """The ids of `text` where special tokens are meant, as a chat template makes it."""
    ids = self._marking.encode(text, add_special_tokens=False).ids
    return np.array(ids, np.int32)

  @functools.cached_property
  def _marking(self):
    inner = type(self._inner).from_str(json.dumps(self._spec))
    inner.encode_special_tokens = False
    return inner

  @property
  def special(self) -> list[str]:
    """The texts that `marked` takes for special tokens."""
    return [t["content"] for t in self._spec["added_tokens"] if t["special"]]

  @property
  def stops(self) -> frozenset[int]:
    """The ids that end a text."""
    more = self._config.get("stop_token_ids", ())
    return frozenset(more) | (frozenset() if self.eos is None else {self.eos})

  @property
  def chat_template(self) -> str | None:
    """The Jinja template that makes one text of a conversation, if there is one."""
    told = self._config.get("chat_template")
    if isinstance(told, list):  # several, by name
      told = {each["name"]: each["template"] for each in told}.get("default")
    return told

  @property
  def special_tokens(self) -> dict[str, str]:
    """The texts of those with a name, such as bos_token: a template may use them."""
    found = {name: self._config.get(name) for name in KNOWN}
    return {name: builders.text(t) for name, t in found.items() if t is not None}

  def decode(self, ids) -> str:
    """The text of `ids`, special ones left out; half a character becomes U+FFFD."""
    if not self.byte_level:
      return self._inner.decode([int(i) for i in ids], skip_special_tokens=True)
    return self.decode_bytes(ids).decode("utf-8", "replace")

  def decode_bytes(self, ids) -> bytes:
    """The UTF-8 of `ids`, which may end within a character when byte-level."""
    if not self.byte_level:
      return self.decode(ids).encode()
    return b"".join(self._bytes_of_id[int(i)] for i in ids)

  @functools.cached_property
  def _bytes_of_id(self) -> list[bytes]:
    table = [b""] * self.size
    for token, i in self._inner.get_vocab(with_added_tokens=False).items():
      table[i] = bytes(byte_of_char()[c] for c in token if c in byte_of_char())
    for i, token in self._inner.get_added_tokens_decoder().items():
      table[i] = b"" if token.special else token.content.encode()
    return table

  @functools.cached_property
  def bytes_V(self):
    """How many bytes of text each id stands for (int32; specials 0), for bits per byte.

    None for a foreign tokenizer that is not byte-level: its ids have no fixed length.
    """
    if not self.byte_level:
      return None
    return np.array([len(b) for b in self._bytes_of_id], np.int32)

  @property
  def digest(self) -> str:
    """A sha256 of all that decides the ids."""
    told = [self._spec, self.bos, self.eos, self.pad]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

  def save(self, folder):
    """Writes tokenizer.json and tokenizer_config.json, as Hugging Face reads them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(self._config, indent=2, ensure_ascii=False)
    write_atomically(folder / "tokenizer_config.json", config.encode())
    text = json.dumps(self._spec, indent=1, ensure_ascii=False)
    write_atomically(folder / "tokenizer.json", text.encode())


def _ours(inner) -> Tokenizer:
  inner.add_special_tokens([END, PAD])  # no change where they are in already
  config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "pad_token": PAD,
    "clean_up_tokenization_spaces": False,
  }
  unknown = inner.token_to_id(word_level.UNKNOWN)
  return Tokenizer(
    inner, config if unknown is None else config | {"unk_token": word_level.UNKNOWN}
  )


def byte_tokenizer() -> Tokenizer:
  """Ids 0 to 255 are the bytes, 256 ends a document (and starts one), 257 pads."""
  return _ours(bpe.without_merges())


def load(path) -> Tokenizer:
  """The tokenizer of a folder with a tokenizer.json, or of a file; see files.py.

  Special tokens are those of tokenizer_config.json beside it, else found by name.
  Raises Mistake when there is no such file or it cannot be read.
  """
  file = files.found(path)
  if file is None:
    raise Mistake(f"no tokenizer at {path}; give a tokenizer.json or its folder")
  inner, config = files.read(file)
  for name, known in KNOWN.items():
    if name not in config:
      found = [t for t in known if inner.token_to_id(t) is not None]
      config[name] = found[0] if found else None
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
    return _ours(LEARNT[kind].learn(texts, size))
  return load(name)


def learnt(name: str) -> tuple[str, int] | None:
  """("bpe", N) of "bpe-N", ("words", N) of "words-N"; None for other tokenizers.

  Raises Mistake for a name that is neither one of these, nor "bytes", nor an existing
  path.
  """
  kind, size = lookup.numbered(name)
  if kind in LEARNT and size is not None:
    return kind, size
  if name != "bytes" and not Path(name).exists():
    raise Mistake(
      f"no tokenizer {name!r}; it is bytes, bpe-N (such as bpe-2048), words-N or the "
      "path of a tokenizer.json"
    )
  return None


def check(name: str):
  """Raises Mistake for a name that `make` has no tokenizer for; learns nothing."""
  if recipe := learnt(name):
    kind, size = recipe
    LEARNT[kind].check_size(size)


def identity(name: str) -> str:
  """What decides the ids: the name of a learnt tokenizer, the digest of a file's."""
  return name if name == "bytes" or learnt(name) else load(name).digest
