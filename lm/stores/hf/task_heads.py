"""What stands on an encoder of theirs: which head, and how many classes it tells."""

from lm.stores.hf.config import Theirs
from lm.stores.hf.engine import linear
from lm.stores.hf.reshape import turned

# What the name of their class ends in -> our head.
KINDS = {
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


def fields(theirs: Theirs, marks: dict, pooled=()) -> dict:
  """Our fields for the head.

  The tensors decide what there is: `marks` are heads of ours and the end of a name that
  only the tensors of such a head have. Where two of them are alike, or the tensors are
  yet to be written, the class in config.json does; `pooled` are the ends of the names
  of those that have a pooler.
  """
  end = _end(theirs)
  head = KINDS.get(end, "none")
  if theirs.names is not None:
    found = [head for head, mark in marks.items() if theirs.has(mark, False)]
    head = head if head in found else [*found, "none"][0]
  if head == "tokens":
    theirs.needs(tie_word_embeddings=True)
  classes = 2
  if head in ("classes", "labels"):
    labels = theirs.get("id2label")
    told = labels if isinstance(labels, dict) else {}
    classes = len(told) or theirs.size("num_labels", 2)
  # Their constructors' argument: for a class with a pooler although most have none.
  pooler = theirs.get("add_pooling_layer", end in pooled)
  pooler = theirs.has(f"{POOLER}.weight", pooler)
  return dict(head=head, classes=classes, pooler=pooler)


def _end(theirs: Theirs) -> str:
  names = str(theirs.get("architectures"))  # one, in a list
  return next((end for end in KINDS if f"{end}'" in names), "")


def told(fields: dict, name: str, pooled=()) -> dict:
  """What a config.json says of our head; `name` is what their classes begin with."""
  ends = {head: end for end, head in KINDS.items()}
  if fields["pooler"] and "ForPreTraining" in pooled:
    ends["tokens"] = "ForPreTraining"
  end = ends[fields["head"]]
  told = dict(architectures=[name + end])
  if fields["pooler"] != (end in pooled):
    told["add_pooling_layer"] = fields["pooler"]
  if fields["classes"] != 2:
    names = [f"LABEL_{i}" for i in range(fields["classes"])]
    told["id2label"] = {str(i): label for i, label in enumerate(names)}
    told["label2id"] = {label: i for i, label in enumerate(names)}
  return told


def classifier(theirs: str) -> list:
  """The rows of the layer that says it; `theirs` is its name there."""
  return linear("classifier/w", theirs, turned())
