"""Byte-level BPE (arXiv:1508.07909): its alphabet, its words, and how it is learnt."""

import functools
import itertools
import re

import numpy as np

from lm.errors import Mistake

END, PAD, UNKNOWN = "<|endoftext|>", "<|pad|>", "<|unk|>"  # special
# Where GPT-2's pattern ends a word in any context: its words have white space only in
# front. All that the library takes for white space, Python does too.
WORD_ENDS = re.compile(r"(?<=\S)(?=[ \n])")
# Characters of a piece to learn from: so one large file uses all cores, little memory.
PIECE_CHARS = 1 << 16
WORDS_AT_ONCE = 1 << 16  # to encode: the library takes a kilobyte for each
# Characters to learn from at most: more adds nothing but memory; see `sample`.
TRAIN_CHARS = 256 << 20


@functools.cache
def byte_of_char() -> dict[str, int]:
  """{character: byte}: GPT-2's printable character for every byte."""
  shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [b for b in range(256) if b not in shown]
  table = {chr(b): b for b in shown}
  return table | {chr(256 + i): b for i, b in enumerate(hidden)}


def without_merges():
  """A `tokenizers.Tokenizer` in which the id of a byte is the byte."""
  from tokenizers import Tokenizer as Inner
  from tokenizers import decoders, models, pre_tokenizers

  inner = Inner(models.BPE(vocab=byte_of_char(), merges=[]))
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  inner.decoder = decoders.ByteLevel()
  return inner


def sample(texts):
  """Every n-th text of a sequence, n such that they have about TRAIN_CHARS at most."""
  probe = [len(texts[i]) for i in range(0, len(texts), max(1, len(texts) // 1000))]
  total = sum(probe) / max(1, len(probe)) * len(texts)
  every = max(1, round(total / TRAIN_CHARS))
  return (texts[i] for i in range(0, len(texts), every))


def pieces_of(text: str) -> list[str]:
  """`text` in pieces of about PIECE_CHARS, cut where words end."""
  pieces, start = [], 0
  while len(text) - start > 2 * PIECE_CHARS:
    word_end = WORD_ENDS.search(text, start + PIECE_CHARS)
    if not word_end:
      break
    pieces.append(text[start : word_end.start()])
    start = word_end.start()
  return [*pieces, text[start:]]


def check_size(size: int):
  """Raises Mistake when `size` cannot hold the 256 bytes and the 2 special tokens."""
  if size < 258:
    raise Mistake(
      f"a BPE of {size} entries cannot hold 256 bytes and 2 special tokens; "
      "ask for bpe-258 or more"
    )


def learn(texts, size: int):
  """A `tokenizers.Tokenizer` of at most `size` entries, from a sequence of texts.

  It has fewer when too few pairs of tokens occur twice. Raises Mistake as `check_size`.
  """
  from tokenizers import Tokenizer as Inner
  from tokenizers import decoders, models, pre_tokenizers, trainers

  check_size(size)
  inner = Inner(models.BPE())
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  inner.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=size,
    min_frequency=2,
    show_progress=False,
    special_tokens=[END, PAD],
    initial_alphabet=sorted(byte_of_char()),
  )
  pieces = (piece for text in sample(texts) for piece in pieces_of(text))
  inner.train_from_iterator(pieces, trainer)
  return inner


def encode_by_word(texts, encode) -> list[np.ndarray]:
  """Returns the ids of each text; encodes every different word once, twice as fast.

  `encode` makes a list of ids of each text of a list.
  """
  number_of_word, numbers_of_texts = {}, []
  for text in texts:
    numbers_of_pieces = []
    for piece in pieces_of(text):
      words = WORD_ENDS.split(piece)
      numbers = (number_of_word.setdefault(w, len(number_of_word)) for w in words)
      numbers_of_pieces.append(np.fromiter(numbers, np.int32))
    numbers_of_texts.append(numbers_of_pieces)
  flat, num_ids = [np.zeros(0, np.int32)], []
  words = iter(number_of_word)
  while some := list(itertools.islice(words, WORDS_AT_ONCE)):
    ids_of_word = encode(some)
    num_ids += map(len, ids_of_word)
    flat.append(np.fromiter(itertools.chain.from_iterable(ids_of_word), np.int32))
  flat, num_ids = np.concatenate(flat), np.array(num_ids, np.int64)
  start = np.cumsum(num_ids) - num_ids

  def ids_of(numbers):
    num = num_ids[numbers]
    end = np.cumsum(num)
    # Within each word count 0, 1, ..., from where its ids start in `flat`.
    index = np.arange(num.sum()) + np.repeat(start[numbers] - end + num, num)
    return flat[index]

  return [np.concatenate(list(map(ids_of, pieces))) for pieces in numbers_of_texts]
