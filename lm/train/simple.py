"""Training in one call, for a notebook: no config, no folder, no flags."""

import jax

from lm import objectives, trees
from lm.data.loader import Loader
from lm.errors import Mistake, check_arguments
from lm.letters import make_mesh
from lm.nn import linear
from lm.optim import Optim
from lm.rng import stream
from lm.train import build
from lm.train.loop import fit as run_loop


def fit(
  model,
  params,
  data,
  *,
  num_steps: int,
  objective="next_token",
  optimiser=None,
  given=None,
  batch: int = 16,
  seed: int = 0,
  mesh=None,
):
  """Returns (params, history): trained parameters, and the metrics of every update.

  Args:
    model: a model of `lm.models`.
    params: the parameters to start from, which are copied; None draws new ones.
    data: rows by index (`lm.data.Rows`), shuffled anew every epoch, or a function of
      the step that returns a batch of arrays by name.
    num_steps: updates to make.
    objective: a function as `lm.objectives` describes it, or the name of one.
    optimiser: an `lm.optim.Optim` (AdamW by default) or any optax transformation.
    given: arrays that nobody trains, for an objective that needs any: objective, given
      = lm.objectives.make("skip_gram", dataset=dataset).
    batch: rows of an update; has no effect where `data` is a function.
    seed: of the order of rows, of new parameters and of dropout.
    mesh: where it runs; by default on the first device.

  Raises Mistake as `lm.train.build` does, and where `given` is missing; Diverged when
  numbers are not finite any more. Example, fine-tuning on labelled sentences:

    rows = lm.data.labelled(texts, labels, tokenizer, seq=32)
    params, history = lm.fit(model, params, rows, objective="classify", num_steps=60)
  """
  check_arguments("lm.fit", model, {} if params is None else params)
  check_trained(params)
  check_given(objective, given)
  mesh = mesh or make_mesh(jax.devices()[:1])
  batches = data if callable(data) else Loader(data, batch=batch, mesh=mesh, seed=seed)
  optimiser = optimiser or Optim(warmup=10)
  options = dict(batch=batches(0), num_steps=num_steps, given=given)
  trainer = build(model, objective, optimiser, mesh, **options)
  root, history = jax.random.key(seed), []
  state = trainer.init(stream(root, "init"))
  if params is not None:
    copied = _copier(trainer.abstract.params)
    state = state.replace(params=copied(params))
    state = state.replace(ema=copied(params) if state.ema else ())

  def report(n, metrics, seconds, spent):
    history.append({"step": n} | metrics)

  with jax.set_mesh(mesh):
    steps = ((n, batches(n)) for n in range(num_steps))
    state = run_loop(
      state, trainer.step, steps, root=root, num_steps=num_steps, report=report
    )
  return state.ema or state.params, history


def check_trained(params):
  """Raises Mistake for parameters of which some are no arrays, such as int8 ones."""
  for path, leaf in trees.by_path(params, is_leaf=linear.is_weight).items():
    if linear.is_weight(leaf):
      raise Mistake(
        f"lm.fit trains arrays, and {path} is quantised or has an adapter; the verb "
        "train trains LoRA beside it: --config.adapt.name=lora"
      )


def check_given(objective, given):
  """Raises Mistake for the name of an objective that needs `given`, without it."""
  if not isinstance(objective, str) or given is not None:
    return
  if objectives.make(objective)[1] is not None:
    call = f"lm.objectives.make({objective!r}, dataset=dataset)"
    raise Mistake(
      f"objective={objective!r} needs arrays made of the data; wanted objective, given "
      f"= {call}, and both of them in lm.fit"
    )


def _copier(wanted):
  """Returns a function that copies parameters to where they are trained, in float32.

  The update gives the buffers of its state away; and small updates vanish in bfloat16,
  which parameters may be loaded in.
  """
  where = jax.tree.map(lambda x: x.sharding, wanted)

  def copy(tree):
    return jax.tree.map(lambda x, w: jax.numpy.array(x, w.dtype), tree, wanted)

  return jax.jit(copy, out_shardings=where)
