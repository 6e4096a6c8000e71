"""`tokenizers` objects from the parts of a foreign tokenizer, one function a kind."""

import re

from lm.data.tokenizers.sentencepiece import (
  BYTE,
  CONTROL,
  NORMAL,
  UNIGRAM,
  UNKNOWN,
  USER,
)
from lm.data.tokenizers.tokenizer import token_text

SPACE = "\u2581"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# As published with Llama 3, whose words have up to three digits; Qwen 2's have one.
LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
  r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GGUF's name of a way to split words -> (pattern, True if digits are split one by one).
SPLITS = {
  "gpt-2": (GPT2, False),
  "olmo": (GPT2, False),
  "smollm": (GPT2, True),
  "starcoder": (GPT2, True),
  "llama-bpe": (LLAMA3.format(digits="{1,3}"), False),
  "qwen2": (LLAMA3.format(digits=""), False),
}


def word_pieces(vocab: dict, config: dict):
  """BERT's WordPiece; `config` is a tokenizer_config.json with its normalisation."""
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers

  inner = Tokenizer(models.WordPiece(vocab, unk_token=token_text(config["unk_token"])))
  inner.normalizer = bert_normaliser(config)
  inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  inner.decoder = decoders.WordPiece()
  return inner


def bert_normaliser(config: dict):
  """BERT's normalisation, by the fields of a tokenizer_config.json."""
  from tokenizers import normalizers

  return normalizers.BertNormalizer(
    lowercase=bool(config["do_lower_case"]),
    handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    strip_accents=config.get("strip_accents"),
  )


def byte_level(
  vocab, pairs, pattern, digits, *, ignore_merges=False, compose=False, spaced=False
):
  """Byte-level BPE with merges; `pattern` and `digits` are a value of SPLITS.

  `compose` normalises texts to NFC, `spaced` puts a space before them.
  """
  from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

  model = models.BPE(vocab=vocab, merges=pairs, ignore_merges=ignore_merges)
  inner = Tokenizer(model)
  if compose:
    inner.normalizer = normalizers.NFC()
  level = pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=pattern == GPT2)
  steps = [level]
  if pattern != GPT2:
    steps = [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), level]
  elif digits:
    steps = [pre_tokenizers.Digits(individual_digits=True), level]
  inner.pre_tokenizer = pre_tokenizers.Sequence(steps) if steps[1:] else level
  inner.decoder = decoders.ByteLevel()
  return inner


def pieces(
  *, texts, scores, kinds, model, dummy_prefix, squeeze, charsmap, first=False
):
  """SentencePiece's unigram or BPE model of these pieces; see `sentencepiece.read`.

  `dummy_prefix` puts a space before a text, `squeeze` removes repeated spaces, and
  `charsmap` is the compiled normalisation. `first` puts that space only before what
  precedes the first special token, and not where there is one.
  """
  from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

  bytes_too = BYTE in kinds
  unknown = kinds.index(UNKNOWN) if UNKNOWN in kinds else None
  if model == UNIGRAM:
    both = list(zip(texts, scores, strict=True))
    inner = Tokenizer(models.Unigram(both, unknown, byte_fallback=bytes_too))
  else:
    vocab = {text: i for i, text in enumerate(texts)}
    inner = Tokenizer(
      models.BPE(
        vocab=vocab,
        merges=merges_of(texts, scores, kinds),
        unk_token=None if unknown is None else texts[unknown],
        fuse_unk=True,
        byte_fallback=bytes_too,
      )
    )
  steps = [normalizers.Precompiled(charsmap)] if charsmap else []
  if squeeze:
    # Spaces only: other white space stays, where the charsmap has not made it spaces.
    steps += [normalizers.Replace(Regex(r"\A +| +\z"), "")]
    steps += [normalizers.Replace(Regex(" {2,}"), " ")]
  if dummy_prefix and first:
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
  elif dummy_prefix:
    steps += [normalizers.Prepend(SPACE)]
  steps += [normalizers.Replace(" ", SPACE)]
  inner.normalizer = normalizers.Sequence(steps)
  back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
  if dummy_prefix:
    back += [decoders.Strip(" ", 1, 0)]
  inner.decoder = decoders.Sequence(back)
  return inner


def isolate(inner, kind_of: dict) -> dict:
  """Has `inner` keep USER pieces whole within a text; returns the other pieces.

  Text behind an added token would get a space before it, which SentencePiece has only
  where the whole text begins.
  """
  from tokenizers import Regex, pre_tokenizers

  whole = [text for text, kind in kind_of.items() if kind == USER]
  if whole:
    pattern = "|".join(map(re.escape, sorted(whole, key=len, reverse=True)))
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    steps = [inner.pre_tokenizer, split] if inner.pre_tokenizer else [split]
    inner.pre_tokenizer = pre_tokenizers.Sequence(steps)
    inner.model.ignore_merges = True  # they are not made by merges
  return {text: kind for text, kind in kind_of.items() if kind != USER}


def add(inner, kind_of: dict):
  """Registers CONTROL and UNKNOWN pieces as special, and USER pieces as never split.

  `kind_of` maps the text of a piece to its kind. What is registered stays as it is.
  """
  from tokenizers import AddedToken

  known = {token.content for token in inner.get_added_tokens_decoder().values()}
  kind_of = {text: kind for text, kind in kind_of.items() if text not in known}
  special = [text for text, kind in kind_of.items() if kind in (UNKNOWN, CONTROL)]
  inner.add_special_tokens([AddedToken(text, normalized=False) for text in special])
  whole = [text for text, kind in kind_of.items() if kind == USER]
  inner.add_tokens([AddedToken(text, normalized=False) for text in whole])


def merges_of(texts, scores, kinds) -> list[tuple[str, str]]:
  """The merges that scores imply: of any two pieces that make a third, best first."""
  usable = {
    text: i for i, (text, kind) in enumerate(zip(texts, kinds, strict=True))
    if kind in (NORMAL, USER)
  }  # fmt: skip
  merges = []
  for text, i in usable.items():
    for cut in range(1, len(text)):
      left, right = text[:cut], text[cut:]
      if left in usable and right in usable:
        merges.append((-scores[i], usable[left], usable[right], left, right))
  return [(left, right) for *_, left, right in sorted(merges)]


def surround(inner, config: dict, *, begins: bool, ends: bool):
  """Has `inner` add bos (`begins`) and eos (`ends`) when special tokens are wanted."""
  bos, eos = token_text(config.get("bos_token")), token_text(config.get("eos_token"))
  between(inner, [bos] if begins else [], [eos] if ends else [])


def between(inner, before, behind, *, doubled=False):
  """Has `inner` put these tokens around a text, and `behind` behind each of a pair.

  `doubled` puts a second `behind` between the two texts. None is no token.
  """
  from tokenizers import processors

  before, behind = (
    [t for t in texts if t and inner.token_to_id(t) is not None]
    for texts in (before, behind)
  )
  if not before + behind:
    return
  single = [f"{t}:0" for t in (*before, "$A", *behind)]
  inner.post_processor = processors.TemplateProcessing(
    single=single,
    pair=[
      *single,
      *(f"{t}:0" for t in behind * doubled),
      "$B:1",
      *(f"{t}:1" for t in behind),
    ],
    special_tokens=[(t, inner.token_to_id(t)) for t in {*before, *behind}],
  )
