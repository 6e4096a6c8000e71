"""The description of a training run: frozen dataclasses that validate themselves.

Each rule and each default stands once, in the dataclass that owns it: `Optim` and
`Data` in their packages, the rest here. `Experiment.of` builds them from a nested dict,
such as a run's config.json.
"""

import dataclasses
from dataclasses import dataclass, field

from lm.data import Data
from lm.data.corpus.engines import Engine
from lm.errors import Mistake, not_negative, positive, suggestion
from lm.letters import AXES
from lm.log import writers
from lm.optim import Optim

SEEDS = 1 << 32  # jax would take the next one for 0

# Values that may change when a run is continued: they decide how long it is trained,
# evaluated and computed, and leave the model, its data and its updates as they are.
# (Micro-batches do draw their own dropout, and each has its own places of experts.)
FREE = (
  "num_steps",
  "eval",
  "checkpoint",
  "log",
  "mesh",
  "data.cache",
  "prepare",
  "loss.logits_bytes",
)
FREE += ("model.scan", "model.remat", "model.backend", "model.chunk")
FREE += ("optim.accumulate",)


@dataclass(frozen=True, kw_only=True)
class Init:
  """The source of the initial parameters, in place of random numbers."""

  path: str = ""  # a run, a Hugging Face folder or a .gguf file
  fresh: tuple = ()  # regular expressions of the parameters that are drawn all the same
  embedding: str = ""  # a file of word vectors for the embedding's table


@dataclass(frozen=True, kw_only=True)
class Eval:
  """The schedule of evaluations of held-out text, and of samples."""

  every: int = 500  # updates; 0 means only at the end
  batches: int = 0  # of the held-out split, evenly spread; 0 means all
  sample_tokens: int = 0  # length of a sample after each evaluation; 0 means none
  score: str = "loss"  # the metric of the best checkpoint; "-accuracy": more is better

  def __post_init__(self):
    not_negative(self, "every", "batches", "sample_tokens")

  def score_of(self, metrics: dict[str, float]) -> float:
    """Returns the score, less is better, of metrics "eval/<name>".

    Raises Mistake when the objective has no such metric.
    """
    name = self.score.removeprefix("-")
    if f"eval/{name}" not in metrics:
      names = ", ".join(key.removeprefix("eval/") for key in metrics)
      raise Mistake(f"eval.score={self.score!r}; this objective has {names}")
    value = metrics[f"eval/{name}"]
    return -value if self.score.startswith("-") else value


@dataclass(frozen=True, kw_only=True)
class Keep:
  """The schedule of checkpoints; that of the best score is kept besides the newest."""

  every: int = 500  # updates; 0 means only at the end
  keep: int = 3  # the newest

  def __post_init__(self):
    not_negative(self, "every")
    positive(self, "keep")


@dataclass(frozen=True, kw_only=True)
class Logging:
  """The metrics that are kept: metrics.jsonl, and copies elsewhere."""

  every: int = 1  # updates; those of an evaluation and of the end are always logged
  to: tuple = ("tensorboard",)  # files of lm/log/writers; () for metrics.jsonl alone

  def __post_init__(self):
    positive(self, "every")
    writers.check(self.names)

  @property
  def names(self) -> tuple[str, ...]:
    """`to` as a tuple."""
    return (self.to,) if isinstance(self.to, str) else tuple(self.to)


@dataclass(frozen=True, kw_only=True)
class Experiment:
  """The description of a training run; `lm.train.compose.plan` makes objects of it."""

  num_steps: int  # updates in all
  batch: int  # rows of an update
  seq: int  # positions of a row
  seed: int = 0  # of new parameters, the order of rows, dropout and samples
  objective: str = "next_token"  # a file of lm/objectives
  model: dict  # family, preset and flat fields, see `lm.models.build`
  data: Data
  prepare: Engine = field(default_factory=Engine)  # who prepares data.source
  task: dict = field(default_factory=dict)  # in place of data.source, see `lm.tasks`
  loss: dict = field(default_factory=dict)  # the objective's options
  adapt: dict = field(default_factory=dict)  # what is trained of it, see `lm.adapt`
  # A model to learn from; where the objective needs one, by default that of init.path.
  teacher: str = ""
  optim: Optim = field(default_factory=Optim)
  mesh: dict = field(default_factory=lambda: {"data": -1})  # see letters.make_mesh
  init: Init = field(default_factory=Init)
  eval: Eval = field(default_factory=Eval)
  checkpoint: Keep = field(default_factory=Keep)
  log: Logging = field(default_factory=Logging)

  def __post_init__(self):
    positive(self, "num_steps", "batch", "seq")
    not_negative(self, "seed")
    if self.seed >= SEEDS:
      raise Mistake(f"seed={self.seed}; wanted less than {SEEDS}")
    if bool(self.task) == bool(self.data.sources):
      has = "both" if self.task else "neither"
      raise Mistake(f"the config has {has} data.source and task.name; wanted one")
    if self.batch % self.optim.accumulate:
      raise Mistake(
        f"optim.accumulate={self.optim.accumulate} does not divide batch={self.batch}"
      )

  @property
  def sources(self) -> tuple[str, ...]:
    """The names of what it is trained on."""
    return (self.task["train"],) if self.task else self.data.sources

  @classmethod
  def of(cls, values: dict):
    """Returns the Experiment of a nested dict; Mistake names the first wrong value."""
    return build(cls, values)


def build(cls, values: dict, group: str = ""):
  """Returns the dataclass `cls` with the values of a dict, its groups built first.

  Raises Mistake for a key that is no field, for a required field without a key and,
  with the group's name in front, for a value that the dataclass refuses.
  """
  fields = {f.name: f for f in dataclasses.fields(cls)}
  for name in values:
    if name not in fields:
      hint = suggestion(name, fields, otherwise="take it out")
      hint = hint.replace("mean '", f"mean '{group}")
      raise Mistake(f"nothing reads the config's value {group}{name}; {hint}")
  for name, f in fields.items():
    is_required = f.default is f.default_factory is dataclasses.MISSING
    if is_required and name not in values:
      raise Mistake(f"the config has no value {group}{name}; add it to its file")
  arguments = {}
  for name, value in values.items():
    kind = fields[name].type
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or kind is dict):
      if not isinstance(value, dict):
        raise Mistake(
          f"{group}{name}={value!r}; wanted a group: cfg.{group}{name} = dict(...)"
        )
      value = value if kind is dict else build(kind, value, f"{group}{name}.")
    elif isinstance(value, list):  # JSON has no tuples
      value = _tuples(value)
    arguments[name] = value
  try:
    return cls(**arguments)
  except Mistake as mistake:
    # "lr=-1; wanted ..." becomes "optim.lr=-1; wanted ...".
    if group and str(mistake).partition("=")[0] in fields:
      raise Mistake(f"{group}{mistake}") from mistake
    raise


def defaults() -> dict:
  """Returns the default of every value that has one, nested as a config is."""
  return _defaults(Experiment) | {"mesh": dict.fromkeys(AXES, 1) | {"data": -1}}


def _defaults(cls) -> dict:
  values = {}
  for f in dataclasses.fields(cls):
    if dataclasses.is_dataclass(f.type):
      values[f.name] = _defaults(f.type)
    elif f.default is not dataclasses.MISSING:
      values[f.name] = f.default
    elif f.default_factory is not dataclasses.MISSING:
      values[f.name] = f.default_factory()
  return values


def _tuples(value):
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
