"""Tokens that the files beside a vocabulary add to it."""

from pathlib import Path

from lm.data.tokenizers import files
from lm.data.tokenizers.classes import NAMES
from lm.data.tokenizers.tokenizer import token_text
from lm.errors import Mistake

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def add(inner, config: dict, folder: Path, *, raw=False):
  """Adds to `inner` what `config` and added_tokens.json in `folder` name.

  Those with ids come first, in the order of their ids, then special tokens that the
  vocabulary lacks. `raw` has all of them searched in texts before normalisation. Raises
  Mistake when a token gets another id than its file says.
  """
  known = inner.get_vocab(with_added_tokens=True)
  registered = {t.content: t for t in inner.get_added_tokens_decoder().values()}
  roles = {token_text(token) for token in _named(config)}
  id_of, tokens = {}, []
  for id, token in sorted(numbered(config, folder).items()):
    id_of[token["content"]] = id
    special = bool(token.get("special") or token["content"] in roles)
    tokens.append(token | {"special": special} | ({"normalized": False} if raw else {}))
  for token in [*_named(config), *extra(config)]:
    text = token_text(token)
    old = registered.get(text)
    if old is not None and text in roles:  # a role makes it special
      token = {flag: getattr(old, flag) for flag in FLAGS}
    if text not in id_of and (old is None or text in roles):
      token = token if isinstance(token, dict) else {}
      tokens.append(token | {"content": text, "special": True})
  inner.add_tokens([_added(token) for token in tokens if token["content"]])
  for text, id in id_of.items():
    actual = inner.token_to_id(text)
    if text and actual != id:
      where = "in the vocabulary" if text in known else "as the next free one"
      raise Mistake(
        f"{folder} gives the token {text!r} the id {id}, and it has {actual} {where}; "
        "make its tokenizer files agree"
      )


def numbered(config: dict, folder: Path) -> dict[int, dict]:
  """{id: token} of added_tokens_decoder in `config`, else of added_tokens.json."""
  tokens = config.get("added_tokens_decoder")
  if tokens is not None:
    try:
      return {int(id): dict(token) | {"content": str(token["content"])}
              for id, token in tokens.items()}  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise Mistake(
        f"{folder}: added_tokens_decoder in tokenizer_config.json is not a token for "
        f"each id: {error!r}"
      ) from error
  special = {token_text(token) for token in [*_named(config), *extra(config)]}
  tokens = {}
  for text, id in files.read_json(folder / "added_tokens.json").items():
    if not isinstance(id, int):
      raise Mistake(f"{folder}/added_tokens.json has {id!r} for the id of {text!r}")
    flags = {"special": text in special, "normalized": text not in special}
    tokens[id] = {"content": text} | flags
  return tokens


def extra(config: dict) -> list:
  """The special tokens without a role."""
  tokens = config.get("extra_special_tokens") or config.get("additional_special_tokens")
  if isinstance(tokens, dict):
    tokens = tokens.values()
  return [t for t in tokens or () if isinstance(token_text(t), str)]


def _named(config: dict) -> list:
  """The special tokens with a role, in the order in which missing ones get ids."""
  first = [f"{name}_token" for name in NAMES]
  roles = [name for name in config if name.endswith("_token") and name not in first]
  tokens = (config.get(role) for role in [*first, *roles])
  return [t for t in tokens if isinstance(token_text(t), str)]


def _added(token: dict):
  from tokenizers import AddedToken

  flags = {"normalized": not token["special"]}
  flags |= {flag: token[flag] for flag in FLAGS if flag in token}
  return AddedToken(token["content"], **flags)
