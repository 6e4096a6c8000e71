"""From a config to objects: the only place that knows both."""

import functools
import inspect
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import process
from lm import letters as dims
from lm import lookup, models, objectives, optim, train
from lm.data import Data, prepare, row_shapes, tokenizers
from lm.data.loader import Loader, batch_shapes
from lm.data.rows import corrupt
from lm.data.tokenizers import files, word_level
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.stores import hf, run, vectors


def default_workdir() -> str:
  """runs/<name of the config>, without the argument of "file.py:argument"."""
  return os.path.join("runs", Path(process.config_file().split(":")[0]).stem)


def say(line: str):
  """Prints a line, once for all processes of the run."""
  if jax.process_index() == 0:
    print(line, flush=True)


def data(cfg, *, log=say):
  """The dataset of a config, built if need be."""
  return prepare(data_of(cfg), seq=cfg.seq, log=log)


def data_of(cfg) -> Data:
  """The settings of a config's data."""
  return Data(**cfg.data.to_dict())


def loader(cfg, dataset, split, *, seed, mesh) -> Loader:
  """The batches of a split; without a seed, all rows once and in order."""
  order = "once" if seed is None else dataset.order
  rows = dataset.rows(split, cfg.seq)
  return Loader(rows, batch=cfg.batch, mesh=mesh, order=order, seed=seed or 0)


def shapes(cfg, where=None) -> dict:
  """The arrays of a batch (on the mesh `where`) as shapes; needs no data."""
  rows = row_shapes(data_of(cfg), cfg.seq)
  return batch_shapes(rows, batch=cfg.batch, mesh=where)


def objective(cfg, prepared=None):
  """The objective of a config, with what `loss` says of it.

  One of word vectors is told how often each word occurs in `prepared`; without data,
  all are told to be equally frequent.
  """
  found = lookup.function(objectives, cfg.objective)
  known = inspect.signature(found).parameters
  told = cfg.loss.to_dict() if "loss" in cfg else {}
  for name in told:
    if name not in known or known[name].kind is not known[name].KEYWORD_ONLY:
      raise Mistake(f"objective {cfg.objective!r} has no value loss.{name}")
  if "counts_V" in known:
    told["counts_V"] = word_counts(prepared) if prepared else np.ones(1)
  return functools.partial(found, **told) if told else found


def word_counts(prepared) -> np.ndarray:
  """counts_V of the training text, 0 for tokens that are no words."""
  return word_level.of_words(prepared.counts("train"), prepared.tokenizer)


def mesh(cfg):
  return make_mesh(**cfg.mesh)


def model(cfg, vocab: int):
  """The model of a config; Mistake when its rows do not fit the context."""
  built = models.build(**cfg.model, vocab=vocab)
  if 0 < built.config.context < cfg.seq:
    raise Mistake(
      f"seq={cfg.seq} is longer than the model's context={built.config.context}; "
      "make seq smaller or model.context larger"
    )
  return built


def carried(cfg, built) -> int:
  """The rows whose state training carries on: those of a batch, or with no stream none.

  Raises Mistake for a model or an objective that cannot.
  """
  if data_of(cfg).order != "carried":
    return 0
  if cfg.objective != "next_token" or not built.traits.carries:
    raise Mistake(
      f"data.rows={cfg.data.rows!r} carries a recurrent state (rnn, mamba2; next_token)"
      f" from batch to batch; {cfg.model.family!r} with {cfg.objective!r} has none: "
      "use 'concat'"
    )
  return cfg.batch


class Trainer(NamedTuple):
  """What `train.fit` needs of a config and a model."""

  init: Any  # key -> TrainState, sharded
  abstract: Any  # its shapes and shardings
  letters: Any  # the dimensions of the parameters
  step: Any  # the update
  objective: Any


def trainer(cfg, built, where, prepared=None) -> Trainer:
  """The objects of a config's training on the mesh `where`.

  Without prepared data they serve for shapes, see `objective`.
  """
  loss = objective(cfg, prepared)
  tokens_BT = jnp.zeros((1, cfg.seq), jnp.int32)
  params, letters = dims.abstract(built, tokens_BT)
  options = cfg.optim.to_dict()
  accumulate, ema = options.pop("accumulate"), options.pop("ema")
  tx, schedule = optim.make(
    **options, num_steps=cfg.num_steps, params=params, dims=letters
  )
  init, abstract = train.state_maker(
    built, tx, where, tokens_BT, ema=ema > 0, carried=carried(cfg, built)
  )
  step = train.make_step(
    built.apply,
    loss,
    tx,
    schedule=schedule,
    accumulate=accumulate,
    ema_decay=ema,
    abstract=abstract,
  )
  return Trainer(init, abstract, letters, step, loss)


def start(cfg, parts: Trainer, checkpoints, prepared, key):
  """(state, updates made): the newest checkpoint, or a new state.

  `init_from` names a run whose parameters a new state starts from, `init_embedding` a
  file of word vectors that then take the place of some embeddings. Mistake when the
  data are not those of the checkpoint any more, nor the tokenizer that of `init_from`.
  """
  if checkpoints.steps():
    state, done, about = checkpoints.restore(parts.abstract)
    if about["data"] != prepared.digest:
      raise Mistake(
        f"{cfg.data.source} has changed since {checkpoints.folder} was written: its "
        "text or its tokenizer is another one now; take it back or choose another "
        "--workdir"
      )
    say(f"goes on after step {done} of {checkpoints.folder}")
    return state, done
  if cfg.get("init_from"):
    check_tokenizer(cfg, prepared.tokenizer)
  state = parts.init(key)
  if cfg.get("init_from"):
    params = run.load_params(cfg.init_from, parts.abstract.params)
    # A copy: the step is given both, and may write into each.
    ema = jax.tree.map(jnp.copy, params) if cfg.optim.ema else ()
    state = state.replace(params=params, ema=ema)
  if cfg.get("init_embedding"):
    state = embedded(cfg.init_embedding, state, prepared.tokenizer)
  return state, 0


def check_tokenizer(cfg, tokenizer):
  """Raises Mistake when `init_from` learnt what other ids than these stand for."""
  path = Path(cfg.init_from)
  source = path if hf.is_foreign(path) else run.Workdir(path).tokenizer
  if not files.found(source):
    return  # a model without one: nobody knows
  learnt = tokenizers.load(source)
  if corruption := data_of(cfg).corruption:
    learnt = corrupt.extended(learnt, corruption)
  if learnt.digest != tokenizer.digest:
    raise Mistake(
      f"init_from={path} was trained with another tokenizer than data.tokenizer="
      f"{cfg.data.tokenizer}; wanted its own: --config.data.tokenizer={source}"
    )


def embedded(path, state, tokenizer):
  """The state with the vectors of a file (lm.stores.vectors) in its embeddings.

  A token gets the vector of the word that it is, with or without a space in front; all
  others keep theirs. Mistake when the width is another one, or no token is found.
  """
  read, table_VD = vectors.read(path), state.params["embed"]["table"]
  if read.table_VD.shape[1] != table_VD.shape[1]:
    raise Mistake(
      f"{path} has vectors of {read.table_VD.shape[1]} numbers, and the model's width "
      f"is {table_VD.shape[1]}; make model.width {read.table_VD.shape[1]}"
    )
  texts = vectors.texts_of(tokenizer)
  found = [i for i, text in enumerate(texts) if text in read]
  say(f"{path}: {len(found)} of {len(texts)} tokens begin with a vector from there")
  if not found:
    raise Mistake(f"{path} has a vector for no token; wanted one of the same words")
  new = read.table_VD[[read.row(texts[i]) for i in found]]
  fill = lambda table_VD: table_VD.at[np.array(found)].set(new)
  embed = {"table": jax.jit(fill, out_shardings=table_VD.sharding)(table_VD)}
  params = state.params | {"embed": state.params["embed"] | embed}
  ema = jax.tree.map(jnp.copy, params) if state.ema else ()
  return state.replace(params=params, ema=ema)
