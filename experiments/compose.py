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
from lm import lookup, models, objectives, optim, stores, train
from lm.data import tokenizers
from lm.data.corpus import mixture
from lm.data.loader import Fixed, Loader, batched
from lm.data.rows import corrupt, pack
from lm.data.tokenizers import word_level
from lm.errors import Mistake
from lm.letters import make_mesh
from lm.stores import vectors

# Values that a run may go on with changed: they decide how long it is, how it is
# watched, where and how it is computed, not what is trained on what. (Micro-batches do
# draw their own dropout, and share out the places of experts among themselves.)
FREE = ("num_steps", "eval", "checkpoint", "mesh", "data.cache", "model.scan")
FREE += ("model.remat", "model.backend", "model.chunk", "optim.accumulate")
FREE += ("loss.logits_bytes",)


def default_workdir() -> str:
  """runs/<name of the config>, without the argument of "file.py:argument"."""
  return os.path.join("runs", Path(process.config_file().split(":")[0]).stem)


def say(line: str):
  """Prints a line, once for all processes of the run."""
  if jax.process_index() == 0:
    print(line, flush=True)


def data(cfg, *, log=say):
  """The prepared data of a config, of more sources than one a Mixture; made if need be.

  Its tokenizer has the special tokens that the objective needs, behind all others.
  """
  settings = cfg.data.to_dict()
  names, weights = settings.pop("source"), settings.pop("weights", ())
  names = (names,) if isinstance(names, str) else names
  mixture.shares(weights, len(names))  # complains before data are prepared
  parts = mixture.prepare_all(names, **settings, seq=cfg.seq, log=log)
  if name := corruption_name(cfg):
    for part in parts:
      part.tokenizer = corrupt.extended(part.tokenizer, name)
  return parts if len(parts) > 1 else parts[0]


def corruption_name(cfg) -> str:
  """What `corrupt.name` says; "" for a config whose objective reads text as it is."""
  return cfg.corrupt.name if "corrupt" in cfg else ""


def corruption(cfg, tokenizer):
  """What is done to every row before the model reads it; None for nothing."""
  if not corruption_name(cfg):
    return None
  return corrupt.make(**cfg.corrupt, tokenizer=tokenizer, seq=cfg.seq)


def loader(cfg, prepared, split, *, seed, mesh) -> Loader:
  """The batches of a split, as the model of the config reads them."""
  return Loader(
    prepared,
    split,
    batch=cfg.batch,
    seq=cfg.seq,
    seed=seed,
    mesh=mesh,
    weights=cfg.data.get("weights", ()),
    corrupt=corruption(cfg, prepared.tokenizer),
  )


def shapes(cfg) -> dict:
  """The arrays of a batch, but for its segments, as shapes; needs no data."""
  row = pack.empty_row(cfg.seq, pad=0)
  if name := corruption_name(cfg):
    tokenizer = corrupt.extended(tokenizers.byte_tokenizer(), name)
    rows = pack.ConcatRows([0, 0], cfg.seq, 0)
    row = Fixed(rows, corruption(cfg, tokenizer)).pad_row()
  return {
    batched(key): jax.ShapeDtypeStruct((cfg.batch, *x.shape), x.dtype)
    for key, x in row.items()
  }


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


def vocab(cfg, tokenizer) -> int:
  """The tokens of the model: those of `init_from`, else those of the tokenizer.

  A table may be longer than its tokenizer (Qwen), or shorter by special tokens that no
  text becomes (Gemma 3); with a corruption its special tokens are in the rows.
  """
  if not cfg.get("init_from"):
    return tokenizer.size
  size = stores.open(cfg.init_from).fields["vocab"]
  return max(size, tokenizer.size) if corruption_name(cfg) else size


def check_init(cfg):
  """Raises Mistake unless `init_from` has the parameters of the model."""
  store = stores.open(cfg.init_from)
  store.check(stores.abstract(model(cfg, store.fields["vocab"]))[0])


def carried(cfg, built) -> int:
  """The rows whose state training carries on: those of a batch, or with no stream none.

  Raises Mistake for a model or an objective that cannot.
  """
  if cfg.data.pack != "stream":
    return 0
  if cfg.objective != "next_token" or not built.traits.carries:
    raise Mistake(
      f"data.pack='stream' carries a recurrent state (rnn, mamba2; next_token) from "
      f"batch to batch; {cfg.model.family!r} with {cfg.objective!r} has none: use "
      "'concat'"
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
    params = stores.open(cfg.init_from).params(parts.abstract.params)
    # A copy: the step is given both, and may write into each.
    ema = jax.tree.map(jnp.copy, params) if cfg.optim.ema else ()
    state = state.replace(params=params, ema=ema)
  if cfg.get("init_embedding"):
    state = embedded(cfg.init_embedding, state, prepared.tokenizer)
  return state, 0


def check_tokenizer(cfg, tokenizer):
  """Raises Mistake when `init_from` learnt what other ids than these stand for."""
  store = stores.open(cfg.init_from)
  path, source, learnt = store.path, store.tokenizer_path, store.tokenizer()
  if learnt is None:
    return  # a model without one: nobody knows
  if name := corruption_name(cfg):
    learnt = corrupt.extended(learnt, name)
  if learnt.digest != tokenizer.digest:
    raise Mistake(
      f"init_from={path} was trained with another tokenizer than data.tokenizer="
      f"{cfg.data.tokenizer}; wanted its own: --config.data.tokenizer={source}"
    )


def embedded(path, state, tokenizer):
  """The state with the vectors of a file in its embeddings; see vectors.into_table."""
  table_VD = state.params["embed"]["table"]
  table_VD, count = vectors.into_table(path, table_VD, tokenizer)
  say(f"{path}: {count} of {tokenizer.size} tokens begin with a vector from there")
  params = state.params | {"embed": state.params["embed"] | {"table": table_VD}}
  ema = jax.tree.map(jnp.copy, params) if state.ema else ()
  return state.replace(params=params, ema=ema)
