"""Tokenizer folders as a hub has them: small vocabularies in every layout of files.

A layout is {file name: content}: bytes, text, or what becomes JSON. Those of LAYOUTS
are read by `transformers` and here alike; those of REFUSED are not read here.
"""

import functools
import io
import json
import random
import tempfile
from pathlib import Path

import sentencepiece
import transformers
from texts import TEXTS
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
CHAT = (
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
  "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = [END, "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<mask>", "[CLS]"]
MARKS += ["[SEP]", "[MASK]", "<extra_id_0>", "<extra_id_99>", "[E1]", "[E2]", "<pad>"]
MARKS += ["new_word", "<turn>"]


@functools.cache
def strings() -> list[str]:
  """Returns 200 texts: pieces in many scripts, spaces of all kinds, special tokens."""
  draw, texts = random.Random(1), ["", " ", "  ", "\n", "a", " a", "a ", "\t a", *MARKS]
  spaces = ["", "", "", " ", "  ", "\n", " \n "]
  while len(texts) < 200:
    parts = []
    for _ in range(draw.randrange(1, 4)):
      start = draw.randrange(len(TEXTS))
      parts.append(TEXTS[start : start + draw.randrange(1, 30)].replace("\0", ""))
      if draw.random() < 0.5:
        parts.append(draw.choice(spaces) + draw.choice(MARKS) + draw.choice(spaces))
    texts.append("".join(parts))
  return texts


@functools.cache
def merges() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
  """Returns (the alphabet of bytes, merges of them)."""
  inner = Inner(models.BPE())
  inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  trainer = trainers.BpeTrainer(
    vocab_size=500, initial_alphabet=alphabet, show_progress=False
  )
  inner.train_from_iterator([TEXTS], trainer)
  return tuple(alphabet), tuple(
    map(tuple, json.loads(inner.to_str())["model"]["merges"])
  )


def byte_files(first=(), last=()) -> dict:
  """Returns vocab.json and merges.txt, with special tokens before and behind."""
  alphabet, pairs = merges()
  tokens = [*first, *alphabet, *map("".join, pairs), *last]
  lines = ["#version: 0.2", *map(" ".join, pairs)]
  vocab = {token: i for i, token in enumerate(tokens)}
  return {"vocab.json": vocab, "merges.txt": "\n".join(lines) + "\n"}


GPT2 = {"last": [END]}
ROBERTA = {"first": ["<s>", "<pad>", "</s>", "<unk>"], "last": ["<mask>"]}


@functools.cache
def words(special=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")) -> str:
  """Returns the content of a vocab.txt."""
  inner = Inner(models.WordPiece(unk_token="[UNK]"))
  inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  trainer = trainers.WordPieceTrainer(
    vocab_size=500, special_tokens=list(special), show_progress=False
  )
  inner.train_from_iterator([TEXTS, TEXTS.lower()], trainer)
  return "\n".join(sorted(inner.get_vocab(), key=inner.get_vocab().get)) + "\n"


PIECES = {
  "t5": dict(bos_id=-1, pad_id=0, eos_id=1, unk_id=2),
  "xlm": {},
  "albert": dict(
    pad_id=0,
    unk_id=1,
    bos_id=2,
    eos_id=3,
    bos_piece="[CLS]",
    eos_piece="[SEP]",
    control_symbols=["[MASK]"],
  ),
  "deberta": dict(
    pad_id=0,
    bos_id=1,
    eos_id=2,
    unk_id=3,
    pad_piece="[PAD]",
    bos_piece="[CLS]",
    eos_piece="[SEP]",
    unk_piece="[UNK]",
  ),
  "llama": dict(model_type="bpe", vocab_size=600, byte_fallback=True),
  "marked": dict(
    model_type="bpe",
    vocab_size=600,
    byte_fallback=True,
    control_symbols=["[E1]", "[control_8]"],
  ),
  "user": dict(
    model_type="bpe",
    vocab_size=600,
    byte_fallback=True,
    user_defined_symbols=["<turn>", "[E1]"],
  ),
  "gemma": dict(
    model_type="bpe",
    vocab_size=600,
    byte_fallback=True,
    add_dummy_prefix=False,
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    bos_piece="<bos>",
    eos_piece="<eos>",
    user_defined_symbols=["<mask>", "<turn>"],
  ),
}


@functools.cache
def pieces(kind: str) -> bytes:
  """Returns a SentencePiece model."""
  options = {"vocab_size": 360, "minloglevel": 2} | PIECES[kind]
  if options.get("model_type") == "bpe":
    options |= dict(normalization_rule_name="identity", remove_extra_whitespaces=False)
  file = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS.splitlines() * 3), model_writer=file, **options
  )
  return file.getvalue()


def write(folder: Path, layout: dict) -> Path:
  """Writes the files of a layout; returns the folder."""
  for name, content in layout.items():
    if isinstance(content, bytes):
      (folder / name).write_bytes(content)
    else:
      text = content if isinstance(content, str) else json.dumps(content)
      (folder / name).write_text(text, "utf-8")
  return folder


def saved(layout: dict, *, added=(), special=(), **fields) -> dict:
  """Returns the files that `transformers` saves of a layout, and its config.json.

  `added` and `special` tokens are added before, `fields` are set in the saved
  tokenizer_config.json (None removes one).
  """
  with tempfile.TemporaryDirectory() as folder:
    hf = transformers.AutoTokenizer.from_pretrained(write(Path(folder), layout))
    hf.add_tokens(list(added))
    hf.add_special_tokens({"additional_special_tokens": list(special)})
    hf.save_pretrained(Path(folder, "saved"))
    files = {f.name: f.read_text() for f in Path(folder, "saved").iterdir()}
  config = json.loads(files["tokenizer_config.json"]) | fields
  files["tokenizer_config.json"] = {k: v for k, v in config.items() if v is not None}
  return files | {k: v for k, v in layout.items() if k == "config.json"}


def without(layout: dict, *names) -> dict:
  """Returns a layout without some files."""
  return {name: content for name, content in layout.items() if name not in names}


def token(text: str, **flags) -> dict:
  """Returns an added token as tokenizer_config.json has it."""
  names = ("lstrip", "rstrip", "normalized", "single_word")
  return {"content": text} | dict.fromkeys(names, False) | {"special": True} | flags


def byte_level_json(pre_tokenizer=None, special=(END,)) -> str:
  """Returns a tokenizer.json of GPT-2's kind without a post-processor."""
  files = byte_files()
  inner = Inner(models.BPE(vocab=files["vocab.json"], merges=list(merges()[1])))
  inner.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(False)
  inner.decoder = decoders.ByteLevel()
  inner.add_special_tokens(list(special))
  return inner.to_str()
