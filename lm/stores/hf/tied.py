"""Tied tensors: one array, of which a file of safetensors keeps any one name."""

from lm.stores.hf.mapping import Row

# Path of a parameter -> other names of its tensor, in all families.
ALSO_SAVED_AS = {
  "embed/table": (
    "lm_head.weight",
    "embed_out.weight",
    "cls.predictions.decoder.weight",
    "lm_head.decoder.weight",
    "vocab_projector.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
  ),
  "bias": ("cls.predictions.decoder.bias", "lm_head.decoder.bias"),
}


def renamed(rows: list[Row], shapes: dict, names) -> list[Row]:
  """Returns the rows with the names that a file has kept of its tied tensors.

  `shapes` are those of the model's parameters by path, `names` those of the tensors. A
  name that another parameter is read from is not tied.
  """
  used = {r.hf for r in rows if any(path in shapes for path in r.paths)}
  name_of = {}
  for path, others in ALSO_SAVED_AS.items():
    for r in rows:
      if r.paths == (path,) and path in shapes and r.hf not in names:
        kept = [name for name in others if name in names and name not in used]
        name_of |= {r.hf: kept[0]} if kept else {}
  return [r._replace(hf=name_of.get(r.hf, r.hf)) for r in rows]


def copies(mapping, names) -> list[str]:
  """Returns those of `names` that are the table of embeddings under another name."""
  others = ALSO_SAVED_AS["embed/table"]
  return [name for name in names if name in others and name not in mapping.tensors]
