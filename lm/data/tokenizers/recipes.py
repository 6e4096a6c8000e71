"""SentencePiece's pieces as each tokenizer class of transformers reads them.

A file's own rules are those of `builders.pieces`. The classes here renumber pieces
(fairseq's models), add some, normalise otherwise, or split at white space first.
"""

from lm.data.tokenizers import languages
from lm.data.tokenizers.builders import SPACE, merges_of
from lm.data.tokenizers.sentencepiece import CONTROL, NORMAL, UNKNOWN
from lm.data.tokenizers.tokenizer import token_text


def build(recipe: str, model: dict, config: dict):
  """(`tokenizers.Tokenizer`, kinds of its pieces) of what `sentencepiece.read` returns.

  `recipe` is that of a `classes.Kind`; `config` is a tokenizer_config.json with the
  defaults of the kind.
  """
  if recipe in ("llama", "gemma"):
    return _merged(recipe, model, config)
  return _split(recipe, model, config)


def _merged(recipe: str, model: dict, config: dict):
  """BPE without normalisation: only the first text before a special token is spaced."""
  from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

  texts, kinds = model["texts"], model["kinds"]
  prefix = recipe == "llama" and config.get("add_prefix_space") is not False
  inner = Tokenizer(
    models.BPE(
      vocab={text: i for i, text in enumerate(texts)},
      merges=merges_of(texts, model["scores"], kinds),
      unk_token=token_text(config["unk_token"]) if recipe == "gemma" else None,
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  back = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
  if recipe == "llama":
    first = "always" if config.get("legacy") else "first"
    inner.pre_tokenizer = pre_tokenizers.Metaspace(
      prepend_scheme=first if prefix else "never", split=False
    )
  else:
    inner.normalizer = normalizers.Replace(" ", SPACE)
  inner.decoder = decoders.Sequence(
    [*back, decoders.Strip(" ", 1, 0)] if prefix else back
  )
  return inner, dict(zip(texts, kinds, strict=True))


def _split(recipe: str, model: dict, config: dict):
  """Unigram of words that white space separates."""
  from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

  pieces = list(zip(model["texts"], model["scores"], model["kinds"], strict=True))
  pieces = _renumbered(recipe, pieces, config)
  texts, scores, kinds = map(list, zip(*pieces, strict=True))
  unknown = kinds.index(UNKNOWN) if UNKNOWN in kinds else None
  inner = Tokenizer(models.Unigram(list(zip(texts, scores, strict=True)), unknown))
  steps = _normalisation(recipe, model["charsmap"], config)
  if steps:
    inner.normalizer = normalizers.Sequence(steps)
  spaced = config.get("add_prefix_space") is not False
  deberta = recipe == "deberta"
  scheme = "always" if spaced else "first" if deberta else "never"
  splits = [] if deberta else [pre_tokenizers.WhitespaceSplit()]
  if deberta and config.get("split_by_punct"):
    splits = [pre_tokenizers.Punctuation("isolated")]
  splits += [pre_tokenizers.Metaspace(prepend_scheme=scheme)]
  inner.pre_tokenizer = pre_tokenizers.Sequence(splits)
  inner.decoder = decoders.Metaspace(prepend_scheme=scheme)
  return inner, dict(zip(texts, kinds, strict=True))


def _normalisation(recipe: str, charsmap: bytes, config: dict) -> list:
  """The normalisers of a class, with the file's own where the class uses it."""
  from tokenizers import Regex, normalizers

  lower = [normalizers.Lowercase()] if config.get("do_lower_case") else []
  own = [normalizers.Precompiled(charsmap)] if charsmap else []
  if recipe == "deberta":
    spaces = normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
    return [*lower, spaces, normalizers.NFC(), normalizers.Strip(left=False)]
  if recipe != "albert":
    return own
  quotes = [normalizers.Replace(quote, '"') for quote in ("``", "''")]
  accents = [normalizers.NFKD(), normalizers.StripAccents()]
  return quotes + ([] if config.get("keep_accents") else accents) + lower + own


def _renumbered(recipe: str, pieces: list, config: dict) -> list:
  """The pieces (text, score, kind) in the order of the class's ids."""

  def token(name, kind=CONTROL):
    return token_text(config[f"{name}_token"]), 0.0, kind

  if recipe == "t5":
    known = {text for text, *_ in pieces}
    numbers = reversed(range(config["extra_ids"] or 0))
    extra = [f"<extra_id_{i}>" for i in numbers]
    return pieces + [(text, 0.0, CONTROL) for text in extra if text not in known]
  if recipe in ("xlm-roberta", *languages.CODES):
    head = [token("bos"), token("pad"), token("eos"), token("unk", UNKNOWN)]
    codes = [(code, 0.0, CONTROL) for code in languages.CODES.get(recipe, ())]
    return [*head, *pieces[3:], *codes, token("mask", NORMAL)]
  if recipe == "pegasus":
    masks = [config["mask_token_sent"], config["mask_token"]]
    unused = [f"<unk_{number}>" for number in range(2, config["offset"])]
    own = [(text, -100.0, CONTROL) for text in [*filter(None, masks), *unused]]
    return [token("pad"), token("eos"), *own, *pieces[2:]]
  if recipe == "camembert":
    head = [("<s>NOTUSED", 0.0, NORMAL), token("pad"), ("</s>NOTUSED", 0.0, NORMAL)]
    head += [token("unk", UNKNOWN), ("<unk>NOTUSED", -100.0, NORMAL)]
    return [*head, *pieces[1:], token("mask", NORMAL)]
  return pieces
