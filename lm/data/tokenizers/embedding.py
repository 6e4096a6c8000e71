"""Settings of sentence-transformers for a text's vector: the files beside a model's.

modules.json lists the steps; 1_Pooling/config.json says which vectors of the tokens
become the text's, sentence_bert_config.json how many tokens are read.
"""

from pathlib import Path

KEY = "embedding"  # see Tokenizer.embedding
# Their names -> ours, in the order in which several are concatenated.
POOLINGS = {
  "cls": "first",
  "max": "max",
  "mean": "mean",
  "mean_sqrt_len": "mean_sqrt",
  "weightedmean": "weighted_mean",
  "lasttoken": "last_token",
}
MODE = "pooling_mode_"  # before a name, in older files
STEPS = ("Transformer", "Pooling", "Normalize")


def beside(folder: Path, read_json) -> dict:
  """Returns {KEY: its values} of a folder that has modules.json or 1_Pooling.

  pooling      names of POOLINGS, ours
  max_tokens   of a text, special tokens included; 0 where nothing limits them
  lower        True if a text is made lower case first
  not_built    what cannot be done here, in words; "" if all can
  `read_json(file)` returns {} without a file.
  """
  modules = read_json(folder / "modules.json", list)
  pooling = read_json(folder / _pooling_path(modules) / "config.json", dict)
  names = pooling.get("pooling_mode") or [
    key.removeprefix(MODE).removesuffix("_tokens").removesuffix("_token")
    for key, is_on in pooling.items()
    if key.startswith(MODE) and is_on
  ]
  names = [names] if isinstance(names, str) else names
  others = [name for name in names if name not in POOLINGS]
  steps = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
  others += [step for step in steps if step not in STEPS]
  limits = read_json(folder / "sentence_bert_config.json", dict)
  return {
    KEY: {
      "pooling": [ours for hf, ours in POOLINGS.items() if hf in names] or ["mean"],
      "max_tokens": limits.get("max_seq_length") or 0,
      "lower": bool(limits.get("do_lower_case")),
      "not_built": ", ".join(others),
    }
  }


def _pooling_path(modules: list) -> str:
  """Returns the folder of the pooling: that of modules.json, or the usual one."""
  paths = [m.get("path") for m in modules if "Pooling" in str(m.get("type"))]
  return next((path for path in paths if path), "1_Pooling")
