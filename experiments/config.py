"""Makes an Experiment of a config file and the flags that change it.

--config=FILE names a .py file whose get_config() returns a ConfigDict; the file is
executed once. Every value that it leaves out gets its default, before flags are read,
from the dataclass (or function) that owns it: so --config.GROUP.NAME=VALUE can change
any value there is.
"""

import dataclasses
import inspect
import os
import runpy
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import tuples
from experiments.values import flat, listing, misspelt
from lm import lookup, models, objectives, stores
from lm.data import clean, sources
from lm.disk import paths
from lm.errors import Mistake
from lm.train import config as training

ROOT = Path(__file__).resolve().parents[1]
SHOWN = "configs/shakespeare.py"  # the example in messages
# Values that decide which other values there are; flags may set them too.
SELECTORS = ("model.family", "model.preset", "objective", "init.path", "teacher")
SELECTORS += ("data.corrupt.name", "data.source", "task.name", "adapt.name")

_file = ""  # the value of --config, "file:argument"
_notes = []  # lines about flags that change more than one value


def flag(help=f"the experiment, such as {SHOWN}"):
  """Defines --config. `read` replaces it by the flags of the values in the file."""
  flags.DEFINE_string(
    "config", None, f"{help}; --config.optim.lr=1e-3 changes a value of it"
  )


def file() -> str:
  """Returns the file that --config named."""
  return _file


def default_workdir() -> str:
  """Returns runs/<name of the config>, without the argument of "file.py:argument"."""
  return os.path.join("runs", Path(_parts(_file)[0]).stem)


def experiment() -> tuple[training.Experiment, dict]:
  """Returns the Experiment of --config and its flags, and the dict it was built from.

  The dict is nested, as a run's config.json. Raises Mistake for a value that nothing
  reads, that is missing or out of range.
  """
  values = flags.FLAGS["config"].value.to_dict()
  source = values.get("data", {}).get("source") if _is_group(values, "data") else None
  if isinstance(source, str):
    several = tuples.parse(source) if source.startswith("(") else sources.listed(source)
    values["data"]["source"] = several if len(several) > 1 else source
  if values.get("task"):
    values = with_task(values)
  return training.Experiment.of(values), values


def with_task(values: dict) -> dict:
  """Returns the values with what only the model and the data of a task tell it."""
  from lm import tasks
  from lm.data import examples

  task = tasks.make(values["task"]).for_model(values["model"])
  task = task.resolved(examples.read(task, cache=values["data"]["cache"]))
  model = values["model"] | task.fields()
  return values | {"task": tasks.options(task), "model": model}


def notes() -> list[str]:
  """Returns a line for each flag that changed more than its own value."""
  return list(_notes)


def is_given() -> bool:
  """True if --config named a file."""
  return bool(_file)


def read(argv) -> list[str]:
  """Executes the file of --config=FILE, completes it and defines flags for its values.

  Returns `argv` without --config=FILE. Raises Mistake for what is wrong with the file.
  """
  global _file
  named, rest, overrides = "", [], {}
  arguments = iter(argv)
  for argument in arguments:
    name, given, value = argument.partition("=")
    if name.lstrip("-") == "config" and argument.startswith("-"):
      named = value if given else next(arguments, "")
      continue
    rest.append(argument)
    name = name.lstrip("-").removeprefix("config.")
    if argument.startswith(("-config.", "--config.")):
      if not given and name in SELECTORS:
        rest.append(value := next(arguments, ""))
      overrides[name] = value
  if not named:
    return rest
  _file = named
  values = execute(named)
  for name in SELECTORS:
    if name in overrides:
      _set(values, name, overrides[name])
  if preset := overrides.get("model.preset"):
    _give_way(values, preset)
  del flags.FLAGS.config
  # DEFINE_config_dict reads the overrides from sys_argv itself.
  completed = complete(values)
  rest = tuples.spelt_out(rest, completed)
  try:
    config_flags.DEFINE_config_dict("config", completed, sys_argv=rest)
  except (LookupError, AttributeError) as error:
    raise Mistake(misspelt(str(error))) from error
  return rest


def help_text() -> str:
  """Returns the values of the config that --config named, with their meaning."""
  values = flags.FLAGS["config"].value.to_dict()
  return f"values of {_file}, each of them a flag:\n{listing(values)}"


def hint(name: str) -> str:
  """Returns "; did you mean --config.NAME?" for a flag that a config's value has."""
  if not is_given():
    return ""
  paths = [path for path, _ in flat(flags.FLAGS["config"].value.to_dict())]
  close = [path for path in paths if path == name or path.endswith(f".{name}")]
  return f"; did you mean --config.{' or --config.'.join(close)}?" if close else ""


def execute(named: str) -> ConfigDict:
  """Returns what get_config() of "file.py" or "file.py:argument" returns.

  The file is looked for in the working directory, then in the repository.
  """
  path, colon, argument = _parts(str(paths.local(named)))
  if not os.path.isfile(path) and (ROOT / path).is_file():
    path = str(ROOT / path)
  if not os.path.isfile(path):
    raise Mistake(f"no config file {path}; wanted one such as {SHOWN}")
  if not path.endswith(".py"):
    raise Mistake(f"{path} is no config: wanted a .py file with get_config()")
  try:
    members = runpy.run_path(path)
  except SyntaxError as error:
    raise Mistake(f"{error.filename}, line {error.lineno}: {error.msg}") from error
  if not callable(members.get("get_config")):
    raise Mistake(f"{path} has no function get_config(); wanted one as in {SHOWN}")
  takes_argument = bool(inspect.signature(members["get_config"]).parameters)
  if colon and not takes_argument:
    raise Mistake(f"get_config() of {path} takes no argument; leave out :{argument}")
  config = members["get_config"](*([argument] if colon else []))
  if not isinstance(config, ConfigDict):
    raise Mistake(
      f"get_config() of {path} returns a {type(config).__name__}; wanted a ConfigDict "
      "of ml_collections"
    )
  return config


def complete(config: ConfigDict) -> ConfigDict:
  """Returns the config with the default of every value that it leaves out.

  With `init.path`, the defaults of `model` are the fields of the model there, and that
  of `data.tokenizer` is its tokenizer.
  """
  values = config.to_dict()
  defaults = training.defaults()
  groups = {name: values.get(name, {}) for name in ("model", "data", "init")}
  if all(isinstance(group, dict) for group in groups.values()):
    store = None
    if path := groups["init"].get("path", ""):
      store = stores.open(path)
      if tokenizer := store.tokenizer_path:
        defaults["data"]["tokenizer"] = str(tokenizer)
    defaults["model"] = _model_defaults(groups["model"], store)
    defaults["data"]["clean"] = _fields(clean.Rules)
    if name := groups["data"].get("corrupt", {}).get("name", ""):
      corruption = lookup.find("lm.data.rows.corrupt", name).Corruption
      defaults["data"]["corrupt"] = _fields(corruption)
  if name := values.get("adapt", {}).get("name", ""):
    from lm import adapt

    defaults["adapt"] = _fields(adapt.kind(name))
  if name := values.get("task", {}).get("name", ""):
    from lm import tasks

    defaults["task"] = tasks.defaults(name)
    defaults["objective"] = tasks.kind(name).objective
  objective = values.get("objective", defaults["objective"])
  defaults["loss"] = objectives.defaults(objective)
  if not groups["init"].get("path", "") and values.get("teacher"):
    reads_rows = objectives.teaching(objective, values.get("loss")) == "rows"
    own = stores.open(values["teacher"]).tokenizer_path if reads_rows else None
    defaults["data"]["tokenizer"] = str(own or defaults["data"]["tokenizer"])
  return ConfigDict(_merged(defaults, values))


def _parts(named: str) -> tuple[str, str, str]:
  """Returns (path, ":" or "", argument) of "file.py:argument".

  A colon in the name of a folder begins no argument.
  """
  path, colon, argument = named.partition(".py:")
  return (f"{path}.py", ":", argument) if colon else (named, "", "")


def _model_defaults(group: dict, store) -> dict:
  if store is not None:
    return store.completed(group)
  if not group.get("family"):
    raise Mistake(
      "the config has no value model.family; add it to its file, or name a model to "
      "start from: --config.init.path=MODEL"
    )
  preset = group.get("preset", "")
  return models.defaults(group["family"], preset) | {"preset": preset}


def _fields(cls) -> dict:
  """Returns the defaults of a dataclass that a flag can set: numbers, texts, tuples."""
  return {
    f.name: f.default
    for f in dataclasses.fields(cls)
    if isinstance(f.default, int | float | str | tuple)
  }


def _merged(defaults: dict, values: dict) -> dict:
  merged = dict(defaults)
  for name, value in values.items():
    default = defaults.get(name)
    if isinstance(value, dict) and isinstance(default, dict):
      value = _merged(default, value)
    elif isinstance(default, float) and type(value) is int:
      value = float(value)  # or a flag could not make it 0.5
    merged[name] = value
  return merged


def _set(config: ConfigDict, name: str, value: str):
  *groups, last = name.split(".")
  with config.unlocked():
    for group in groups:
      if group not in config:
        config[group] = ConfigDict()
      config = config[group]
    config[last] = value


def _give_way(config: ConfigDict, preset: str):
  """Removes the file's values that the preset of a flag gives, too, and notes them."""
  group, replaced = config.model, {}
  if not group.get("family"):
    return  # `complete` raises, or the model is that of init.path
  for name in models.preset_fields(group.family, preset):
    if name in group:
      replaced[name] = group[name]
      with group.unlocked():
        del group[name]
  if replaced:
    listed = ", ".join(f"{name}={value!r}" for name, value in replaced.items())
    _notes.append(f"preset {preset}, a flag, replaces {listed} of {_file}")


def _is_group(values: dict, name: str) -> bool:
  return isinstance(values.get(name), dict)
