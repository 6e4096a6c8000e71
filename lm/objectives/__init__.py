"""Objectives: the losses and metrics of training and evaluation, as sums.

An objective is a function

  objective(apply, params, batch, key, *, given=None, train=True) -> sums

of a model's `apply`, its parameters, a batch of arrays by name and a key for everything
random (None when `train` is False). It returns named pairs of sums,

  {"loss": (sum, weight), "nats_per_token": (sum, weight), "accuracy": (hits, count)}

and never a mean: pairs are added up over devices, micro-batches and batches, and
divided once at the end. "loss" is what training minimises; every other name is reported
as it stands ("train/accuracy", "eval/accuracy"), so that a new metric is a new name
here and nothing else. A recurrent state that the next batch continues from comes back
under the reserved name "carry".

`given` holds arrays that nobody trains (a teacher's parameters, word frequencies). An
objective that needs any defines, in the same file, `given(dataset, **options)`, which
returns them; `dataset` is None when only shapes are wanted, before there are data.

An objective that learns from another model defines `teaching(**options)`, which returns
how: "rows" (it reads the same rows of ids), "records" (it answers them by a task of its
own) or "" (with these options it does not). Its `given` then takes that model, a
lm.train.teacher.Teacher, as second argument.

An objective that cannot train any model of any family defines `check(model)`, which
raises Mistake for those that it cannot.

An objective that trains on corrupted rows (lm.data.rows.corrupt) names in its file
those that it knows: `CORRUPTIONS = ("prefix", "spans")`; "" is text as it is, which
others read.

`lm/objectives/<name>.py` defines the function `<name>`: adding the file is registering
it. Keyword-only parameters after `train` are its options, which the config's group
`loss` sets.
"""

import inspect
import sys
from functools import partial

from lm import lookup
from lm.data.rows import corrupt
from lm.errors import Mistake, suggestion

NEXT = ("next_token", "distill")  # they predict the next token of text as it is


def make(name: str, options: dict | None = None, dataset=None, teacher=None):
  """Returns (objective, given) by the name of an objective, with its options set.

  Raises Mistake for a name that does not exist, for an option that the objective lacks,
  and when there is no `teacher` and it learns from one. Example:

    objective, _ = make("next_token", {"z_loss": 1e-4})
  """
  function, options = lookup.function("lm.objectives", name), options or {}
  _check(name, options)
  requirements = getattr(sys.modules[function.__module__], "given", None)
  models = [teacher] if teaching(name, options) else []
  if models == [None]:
    raise Mistake(
      f"objective {name!r} learns from another model; name it: --config.teacher=MODEL"
    )
  given = requirements(dataset, *models, **options) if requirements else None
  return partial(function, **options) if options else function, given


def teaching(name: str, options: dict | None = None) -> str:
  """Returns how an objective learns from another model: "rows", "records" or ""."""
  function = lookup.function("lm.objectives", name)
  _check(name, options or {})
  kind = getattr(sys.modules[function.__module__], "teaching", None)
  return kind(**(options or {})) if kind else ""


def defaults(name: str) -> dict:
  """Returns the options of an objective, those that have a default, with it."""
  parameters = inspect.signature(lookup.function("lm.objectives", name)).parameters
  return {
    p.name: p.default
    for p in parameters.values()
    if p.kind is p.KEYWORD_ONLY
    and p.default is not p.empty
    and p.name not in ("given", "train")
  }


def _check(name: str, options: dict):
  """Raises Mistake for an option that the objective lacks."""
  fields = defaults(name)
  for option in options:
    if option not in fields:
      hint = suggestion(option, fields, otherwise="take it out")
      raise Mistake(f"objective {name!r} has no option loss.{option}; {hint}")


def check_rows(name: str, options: dict):
  """Raises Mistake unless an objective and `data.corrupt` ({}: none) go together.

  They do when the objective names the corruption in `CORRUPTIONS`, or the corruption
  the objective in `objectives`. Without any, an objective has to read text as it is.
  """
  corruption, chosen = corrupt.make(options), options.get("name", "")
  fitting = corruptions(name)
  if corruption is None and (not fitting or "" in fitting):
    return
  if corruption and (chosen in fitting or name in corruption.objectives):
    return
  # Only a Mistake pays for importing all corruptions or all objectives.
  if fitting := sorted({*filter(None, fitting), *corrupt.serving(name)}):
    raise Mistake(
      f"objective={name!r} and data.corrupt.name={chosen!r}; wanted a "
      f"data.corrupt.name of {' or '.join(fitting)}"
    )
  others = [x for x in lookup.functions("lm.objectives") if chosen in corruptions(x)]
  raise Mistake(
    f"objective={name!r} reads text as it is, and data.corrupt.name={chosen!r}; wanted "
    "no data.corrupt, or the objective "
    f"{' or '.join([*others, *corruption.objectives])}"
  )


def check_model(name: str, model, corruption: str = "") -> None:
  """Raises Mistake for a model that the objective cannot train on such rows.

  Such is the prediction of next tokens by a model that sees them.
  """
  function = lookup.function("lm.objectives", name)
  if check := getattr(sys.modules[function.__module__], "check", None):
    check(model)
  if name in NEXT and model.traits.sees == "both" and not corruption:
    family = type(model).__module__.rpartition(".")[2]
    raise Mistake(
      f"objective {name!r}, and family {family!r} sees the tokens that it should "
      "predict; wanted another objective, as in configs/family/bert.py"
    )


def corruptions(name: str) -> tuple[str, ...]:
  """Returns the corruptions that an objective names; () when it reads text as it is."""
  function = lookup.function("lm.objectives", name)
  return getattr(sys.modules[function.__module__], "CORRUPTIONS", ())
