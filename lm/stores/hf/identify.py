"""Finds the model_type of a config.json of 2019, which did not have that key yet."""

import re

from lm import models
from lm.errors import Mistake
from lm.stores.hf import HEAD, engine, families, mapping_of
from lm.stores.hf.config import HfConfig
from lm.stores.hf.families import roberta

# Behind the name of the type in a class: BertForMaskedLM, GPT2LMHeadModel, BertModel.
CLASS_ENDS = (
  r"(Encoder|MT)?Model|LMHeadModel|DoubleHeadsModel|WithLMHead(Model)?|For[A-Z]\w*"
)


def model_type(path, config: dict, tensors: dict) -> str:
  """Returns the model_type: of the class in `architectures`, or of the tensors.

  `tensors` are those of the files by name. Without a class, one family alone has to
  have tensors of these names and shapes. Raises Mistake when none does, or several.
  """
  types = [t for name in families.names() for t in families.load(name).MODEL_TYPES]
  classes = config.get("architectures") or []
  classes = [classes] if isinstance(classes, str) else classes
  if classes:
    of_class = [t for t in types if _is_class_of(str(classes[0]), t)]
    if of_class:
      return of_class[0]
    reason = f"architectures={classes} in config.json is of no family that is read"
  else:
    fitting = {t: model for t in types if (model := _fitting(config, tensors, t))}
    if len(set(fitting.values())) == 1:  # Llama and Mistral make the same model
      return next(iter(fitting))
    several = f"the tensors fit {', '.join(fitting)}"
    reason = several if fitting else "the tensors fit no family that is read"
  raise Mistake(
    f"config.json in {path} has no model_type, and {reason}; choose one with "
    f"--family: {', '.join(sorted(types))}"
  )


def _is_class_of(name: str, type: str) -> bool:
  """Returns True for the name of a class of a model_type: BertModel of "bert"."""
  letters = re.sub("[-_]", "", type.removesuffix("_text"))
  rest = name[len(letters) :]
  return name.lower().startswith(letters) and bool(re.fullmatch(CLASS_ENDS, rest))


def _fitting(config: dict, tensors: dict, type: str):
  """Returns the model of a type if the tensors are its own, else None."""
  hf = HfConfig(config | {"model_type": type}, tensors)
  family = families.find(type)
  if type in roberta.MODEL_TYPES and config.get("type_vocab_size", 1) != 1:
    return None  # its tensors may have BERT's names, but there is one type of tokens
  try:
    model = models.build(family.FAMILY, **family.config(hf))
    ignored = f"{family.IGNORED or '$^'}|^{re.escape(HEAD)}$"
    wanted = mapping_of(family, hf, model).tensors
    engine.check(wanted, tensors, ignored)
  except Mistake:
    return None  # another family's
  return model
