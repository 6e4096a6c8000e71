"""Reads and writes the task head of an encoder: its type and number of classes."""

from lm.stores.hf.config import HfConfig
from lm.stores.hf.mapping import linear
from lm.stores.hf.reshape import transposed

# Suffix of the class in `architectures` -> our head.
HEAD_OF_CLASS = {
  "Model": "none",
  "ForPreTraining": "tokens",
  "ForMaskedLM": "tokens",
  "ForNextSentencePrediction": "next",
  "ForSequenceClassification": "classes",
  "ForTokenClassification": "labels",
  "ForQuestionAnswering": "span",
}
ANSWER = "qa_outputs"
POOLER = "pooler.dense"


def fields(hf: HfConfig, head_tensors: dict, pooled=()) -> dict:
  """Returns our fields of the head: head, classes, pooler.

  The tensors decide: `head_tensors` maps a head to the end of a tensor name that only
  this head has. Where two heads share one, or on export, the class in config.json
  decides. `pooled` are the suffixes of classes that have a pooler.
  """
  suffix = _class_suffix(hf)
  head = HEAD_OF_CLASS.get(suffix, "none")
  if hf.names is not None:
    present = [h for h, name in head_tensors.items() if hf.has_tensor(name, False)]
    if not hf.has_tensor(f"{POOLER}.weight", True) and _share(head_tensors):
      present = [h for h in present if h != "classes"]  # which needs a pooler
    head = head if head in present else [*present, "none"][0]
  if head == "tokens":
    hf.require(tie_word_embeddings=True)
  classes = 2
  if head in ("classes", "labels"):
    labels = hf.get("id2label")
    labels = labels if isinstance(labels, dict) else {}
    classes = len(labels) or hf.size("num_labels", 2)
  # The argument of their constructors: a class with a pooler that mostly has none.
  pooler = hf.get("add_pooling_layer", suffix in pooled)
  pooler = hf.has_tensor(f"{POOLER}.weight", pooler)
  return dict(head=head, classes=classes, pooler=pooler)


def _share(head_tensors: dict) -> bool:
  """Returns True if classes and labels have a tensor of the same name."""
  return head_tensors["classes"] == head_tensors["labels"]


def _class_suffix(hf: HfConfig) -> str:
  names = str(hf.get("architectures"))  # a list of one name
  return next((suffix for suffix in HEAD_OF_CLASS if f"{suffix}'" in names), "")


def to_hf(fields: dict, prefix: str, pooled=()) -> dict:
  """Returns the values of config.json for our head.

  `prefix` is what the names of the family's classes begin with.
  """
  suffix_of = {head: suffix for suffix, head in HEAD_OF_CLASS.items()}
  if fields["pooler"] and "ForPreTraining" in pooled:
    suffix_of["tokens"] = "ForPreTraining"
  suffix = suffix_of[fields["head"]]
  values = dict(architectures=[prefix + suffix])
  if fields["pooler"] != (suffix in pooled):
    values["add_pooling_layer"] = fields["pooler"]
  if fields["head"] == "classes" and fields["classes"] == 1:
    values["problem_type"] = "regression"
  if fields["classes"] != 2:
    values |= names_of([f"LABEL_{i}" for i in range(fields["classes"])])
  return values


def names_of(labels) -> dict:
  """Returns the values of config.json that name the classes."""
  return {
    "id2label": {str(i): name for i, name in enumerate(labels)},
    "label2id": {name: i for i, name in enumerate(labels)},
  }


def classifier(hf: str) -> list:
  """Returns the rows of the classifier; `hf` is the name of its layer there."""
  return linear("classifier/w", hf, transposed())
