"""The class of all tokenizers: text to ids and back."""

import functools
import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np

from lm.data.tokenizers import bpe, ends, tidy
from lm.data.tokenizers.bpe import byte_of_char
from lm.disk import atomic
from lm.errors import Mistake

# Codes of languages: mBART's "en_XX", NLLB's "eng_Latn", M2M-100's "__en__".
CODE = re.compile(r"[a-z]{2}_[A-Z]{2}|[a-z]{3}_[A-Z][a-z]{3}|__[a-z]{2,3}__")


class Tokenizer:
  """Ids of a text and back.

  `size` is the number of ids; `bos`, `eos`, `pad` and `unk` are ids, or None. `inner`
  is a `tokenizers.Tokenizer`; `config` is the content of a tokenizer_config.json of
  Hugging Face's that needs no more than the tokenizer.json beside it, and is saved so.
  """

  def __init__(self, inner, config: dict):
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = True  # special-looking text stays text
    self._inner, self._config = inner, config
    self._spec = json.loads(inner.to_str())
    self.files = self._spec, config  # of tokenizer.json and tokenizer_config.json
    self.size = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    self.bos = self._special("bos_token")
    self.eos = self._special("eos_token")
    self.pad = self._special("pad_token")
    self.unk = self._special("unk_token")

  def _special(self, name: str):
    text = token_text(self._config.get(name))
    return None if text is None else self._inner.token_to_id(text)

  def id(self, text: str) -> int:
    """The id of the token with this text; Mistake when there is none."""
    index = self._inner.token_to_id(text)
    if index is None:
      raise Mistake(f"the tokenizer has no token {text!r}")
    return index

  def text_of_id(self, id: int) -> str:
    """The entry of the vocabulary with an id ("##ing"); "" where there is none."""
    return self._inner.id_to_token(id) or ""

  @functools.cached_property
  def is_token_V(self) -> np.ndarray:
    """True for each id below `size` that has a token: a vocabulary may have holes."""
    is_token_V = np.zeros(self.size, bool)
    is_token_V[list(self._inner.get_vocab(with_added_tokens=True).values())] = True
    return is_token_V

  def has_token(self, id: int) -> bool:
    """True if an id has a token; a model may have rows for more ids."""
    return 0 <= id < self.size and bool(self.is_token_V[id])

  def extended(self, names, change=lambda *files: files) -> "Tokenizer":
    """A copy with special tokens of these names, new ones behind the vocabulary, and
    with the contents of its two files that `change(spec, config)` returns."""
    inner = type(self._inner).from_str(self._inner.to_str())
    inner.add_special_tokens([n for n in names if inner.token_to_id(n) is None])
    spec, config = change(json.loads(inner.to_str()), self._config)
    return Tokenizer(type(inner).from_str(json.dumps(spec)), config)

  @functools.cached_property
  def byte_level(self) -> bool:
    """True if every id stands for a fixed string of bytes."""
    decoder = self._spec["decoder"] or {"type": ""}
    steps = decoder.get("decoders", [decoder])  # a sequence, or a single one
    return any(step["type"] == "ByteLevel" for step in steps)

  @functools.cached_property
  def _plain_bytes(self) -> bool:
    """True if the id of a byte is the byte, and there are no merges."""
    vocab = self._spec["model"].get("vocab")
    merges = self._spec["model"].get("merges")
    return merges == [] and vocab == byte_of_char()

  @functools.cached_property
  def _splits_words(self) -> bool:
    """True if it splits by GPT-2's pattern alone: words end at bpe.WORD_ENDS."""
    splitter = self._spec["pre_tokenizer"] or {}
    return (
      self._spec["normalizer"] is None
      and splitter.get("type") == "ByteLevel"
      and splitter["use_regex"]
      and not splitter["add_prefix_space"]
      and all(token["special"] for token in self._spec["added_tokens"])
    )

  def encode(self, text: str) -> np.ndarray:
    """The int32 ids of `text`, without bos or eos.

    Raises UnicodeEncodeError for a lone surrogate, which has no UTF-8.
    """
    return self.encode_batch([text])[0]

  def encode_batch(self, texts) -> list[np.ndarray]:
    """The ids of each text, on all cores."""
    texts = list(texts)
    if self._plain_bytes:
      return [np.frombuffer(t.encode(), np.uint8).astype(np.int32) for t in texts]
    if self._splits_words:
      return bpe.encode_by_word(texts, self._ids)
    return [np.array(ids, np.int32) for ids in self._ids(texts)]

  def _ids(self, texts) -> list[list[int]]:
    try:
      coded = self._inner.encode_batch_fast(texts, add_special_tokens=False)
    except TypeError:  # the library's message names no text; that of `encode` does
      for text in texts:
        text.encode()
      raise
    return [self._without_special(encoding.ids) for encoding in coded]

  def _without_special(self, ids: list[int], added=None) -> list[int]:
    """The ids of a text in which none is special; those with an `added` flag stay."""
    if self._spelt.keys().isdisjoint(ids):
      return ids
    added = added or [0] * len(ids)
    parts = (
      [i] if flag else self._spelt.get(i, [i])
      for i, flag in zip(ids, added, strict=True)
    )
    return list(itertools.chain.from_iterable(parts))

  @functools.cached_property
  def _spelt(self) -> dict[int, list[int]]:
    """{id of a special token: ids of its text}, where text can become that token.

    A unigram model takes any piece that a text has, "</s>" too; so does BPE that
    ignores merges, for a whole word.
    """
    model = self._spec["model"]
    if model["type"] != "Unigram" and not model.get("ignore_merges"):
      return {}
    pieces = self._inner.get_vocab(with_added_tokens=False)
    unknown = model.get("unk_id", pieces.get(model.get("unk_token")))
    split = self._inner.model.tokenize
    return {
      pieces[text]: [token.id for part in (text[:1], text[1:]) for token in split(part)]
      for text in self.special
      if pieces.get(text) not in (None, unknown)
    }

  def prompt(self, text: str, *, specials=False) -> np.ndarray:
    """The ids of `text` as the input of a model, with the special tokens around it.

    Those are the tokenizer's own: Llama's bos, BERT's [CLS] and [SEP], T5's eos; a
    learnt tokenizer has none. With `specials`, special tokens in the text count as such
    ("[MASK]").
    """
    if specials:
      ids = self._marking.encode(text, add_special_tokens=True).ids
    else:
      encoded = self._inner.encode(text, add_special_tokens=True)
      ids = self._without_special(encoded.ids, encoded.special_tokens_mask)
    return np.array(ids, np.int32)

  def encoding(self, text, pair=None, *, words=False):
    """The `tokenizers.Encoding` of a text (with `words`: a list of them), or of two."""
    return self._inner.encode(text, pair, is_pretokenized=words)

  def marked(self, text: str) -> np.ndarray:
    """The ids of a chat template's output, in which special tokens count as such."""
    return np.array(self._marking.encode(text, add_special_tokens=False).ids, np.int32)

  @functools.cached_property
  def _marking(self):
    inner = type(self._inner).from_str(json.dumps(self._spec))
    inner.encode_special_tokens = False
    return inner

  @property
  def special(self) -> list[str]:
    """The texts that `marked` reads as special tokens."""
    return [t["content"] for t in self._spec["added_tokens"] if t["special"]]

  @functools.cached_property
  def added(self) -> dict[str, int]:
    """The ids of the tokens that are never split, special or not, by their texts."""
    return {token["content"]: token["id"] for token in self._spec["added_tokens"]}

  @functools.cached_property
  def stops(self) -> frozenset[int]:
    """The ids that end a text, see ends.py; ids without a token end nothing."""
    stop_ids = {*self._config.get(ends.KEY, ()), self.eos}
    stop_ids |= {id for text, id in self.added.items() if text in ends.TURN_ENDS}
    return frozenset(id for id in stop_ids if id is not None and self.has_token(id))

  @property
  def embedding(self) -> dict:
    """Settings by which the model's folder makes a vector of a text: embedding.py."""
    return self._config.get("embedding", {})  # our own key: Hugging Face has none

  @property
  def decoding(self) -> dict:
    """Ids that an encoder-decoder begins and ends its texts with: starts.py."""
    return self._config.get("decoding", {})  # our own key, as "embedding"

  @functools.cached_property
  def languages(self) -> dict[str, int]:
    """Ids of the special tokens that are codes of languages: languages.py."""
    return {text: self.added[text] for text in self.special if CODE.fullmatch(text)}

  @property
  def chat_template(self) -> str | None:
    """The Jinja template that makes one text of a conversation, or None."""
    template = self._config.get("chat_template")
    if isinstance(template, list):  # several, by name
      template = {t["name"]: t["template"] for t in template}
    return template.get("default") if isinstance(template, dict) else template

  @property
  def special_tokens(self) -> dict[str, str]:
    """{"bos_token": "<s>", ...}: the special tokens that a chat template may use."""
    roles = [name for name in self._config if name.endswith("_token")]
    tokens = {name: token_text(self._config[name]) for name in roles}
    return {name: text for name, text in tokens.items() if isinstance(text, str)}

  def decode(self, ids) -> str:
    """The text of `ids` without special ones; part of a character becomes U+FFFD.

    An id without a token stands for nothing, as in Hugging Face's.
    """
    if self.byte_level:
      return self.decode_bytes(ids).decode("utf-8", "replace")
    text = self.decode_raw(ids)
    return tidy.tidied(text) if self._tidies else text

  def decode_raw(self, ids) -> str:
    """The text of `ids` before spaces at punctuation are removed, where they are.

    It is what the tokens say one by one, so that it grows with them.
    """
    ids = [int(i) for i in ids if self.has_token(int(i))]
    return self._inner.decode(ids, skip_special_tokens=True)

  @functools.cached_property
  def _tidies(self) -> bool:
    """True if spaces before punctuation are removed: never from texts of BPE."""
    wanted = self._config.get("clean_up_tokenization_spaces")
    return bool(wanted) and self._spec["model"]["type"] != "BPE"

  def decode_bytes(self, ids) -> bytes:
    """The UTF-8 of `ids`; of a byte-level tokenizer it may end within a character."""
    if not self.byte_level:
      return self.decode(ids).encode()
    return b"".join(self._bytes_of_id[i] for i in map(int, ids) if self.has_token(i))

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
    """The number of bytes that each id stands for (int32; specials 0).

    Bits per byte need it. None for a tokenizer that is not byte-level: the length of
    its tokens depends on their neighbours.
    """
    if not self.byte_level:
      return None
    return np.array([len(b) for b in self._bytes_of_id], np.int32)

  @property
  def digest(self) -> str:
    """A sha256 of all that decides the ids."""
    facts = [self._spec, self.bos, self.eos, self.pad]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

  def save(self, folder):
    """Writes tokenizer.json and tokenizer_config.json, as Hugging Face reads them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(self._config, indent=2, ensure_ascii=False)
    atomic.write(folder / "tokenizer_config.json", config.encode())
    text = json.dumps(self._spec, indent=1, ensure_ascii=False)
    atomic.write(folder / "tokenizer.json", text.encode())


def token_text(token) -> str:
  """The text of a token of tokenizer_config.json: a string, or an object with one."""
  return token.get("content") if isinstance(token, dict) else token
