"""A tokenizer of bytes that has a chat template, for models that converse."""

import json

from lm.data import tokenizers

TEMPLATE = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"


def tokenizer(folder) -> str:
  """Returns a folder with the tokenizer; eos is behind each message."""
  tokenizers.byte_tokenizer().save(folder / "tokenizer")
  file = folder / "tokenizer" / "tokenizer_config.json"
  values = json.loads(file.read_text()) | {"chat_template": TEMPLATE}
  file.write_text(json.dumps(values))
  return str(folder / "tokenizer")
