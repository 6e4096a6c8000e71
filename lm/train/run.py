"""A training run in a folder: restores or draws the state, trains, saves.

values = {...}    # a nested dict, such as config.json of another run
experiment = Experiment.of(values)
plan = compose.plan(experiment)
dataset = compose.prepare(experiment)
updates = run(plan, dataset, "runs/shakespeare", config=values)
"""

import shlex

import jax
import jax.numpy as jnp

from lm import evaluate, platform
from lm.checkpoint import Checkpoints
from lm.disk import atomic
from lm.errors import Mistake
from lm.letters import state_dims
from lm.log import Log
from lm.rng import stream as key_stream
from lm.stores.run import RunFolder, manifest, versions
from lm.train import compose, summary
from lm.train.config import FREE
from lm.train.loop import Diverged, Hook, fit


def run(plan, dataset, path, *, config: dict, stop=None, log=print) -> int:
  """Trains until the end, or until stop(n) is True; returns the updates made in all.

  Continues from the newest checkpoint in the folder `path`, if there is one; a caller
  that owns the folder already passes its RunFolder. `config` is the nested dict that
  the plan was made of, as config.json keeps it. `log` gets lines for the user. All
  processes of a run make the same call. Raises Mistake when the folder belongs to a run
  of another config, or to one that is going on, or its data have changed, and Diverged
  when numbers are not finite any more.
  """
  experiment = plan.experiment
  folder = path if isinstance(path, RunFolder) else RunFolder(path)
  folder.check(config, free=FREE)
  bound = plan.bind(dataset)
  log(summary.opening(bound, folder))
  primary, keep = jax.process_index() == 0, experiment.checkpoint.keep
  with folder.owned(log), Checkpoints(folder.checkpoints, keep=keep) as checkpoints:
    root = jax.random.key(experiment.seed)
    # A checkpoint always comes first: `init` is for new runs only.
    state, start = _resumed(bound, checkpoints, log)
    if state is None:
      state, start = bound.start(key_stream(root, "init"), log), 0
    elif line := summary.schedule_change(experiment, _steps_before(folder), start):
      log(line)
    if primary:
      _begin(folder, bound, config)
    run_log = Log(
      folder.path,
      resume_step=start,
      num_steps=experiment.num_steps,
      primary=primary,
      to=experiment.log.names,
      config=config,
    )
    watch = Watch(bound, folder, run_log, checkpoints, config)
    steps = range(start, experiment.num_steps)
    with jax.set_mesh(plan.mesh), run_log:
      try:
        state = fit(
          state,
          bound.trainer.step,
          zip(steps, bound.batches.prefetch(steps), strict=True),
          root=root,
          num_steps=experiment.num_steps,
          report=watch.report,
          hooks=watch.hooks(),
          stop=stop,
        )
      except Diverged as error:
        raise Diverged(f"{error}; {_advice(folder, checkpoints)}") from None
  reached = int(state.step)
  if primary and reached == experiment.num_steps:
    for line in summary.verdict(folder.metrics_file, dataset):
      log(line)
  return reached


def _begin(folder, run: compose.Run, config: dict):
  """Writes the files that describe a run, its tokenizer and the list of its arrays."""
  folder.begin(config, run.model, free=FREE)
  run.dataset.tokenizer.save(folder.tokenizer)
  state = run.trainer.abstract
  whole = [(run.adapter.shapes, run.adapter.letters)] if run.adapter else []
  letters = state_dims(state, *whole, (state.params, run.trainer.letters))
  atomic.write(folder.path / "manifest.txt", manifest(state, letters))


def finished_at(plan, folder) -> int | None:
  """Returns the last step of a run that has come to its end; None where there is more.

  A last checkpoint that is damaged is more to do.
  Creates the folder of checkpoints and removes what a killed process left there, so
  that the caller has to own the RunFolder. Raises Mistake if it cannot be written.
  """
  experiment = plan.experiment
  with Checkpoints(folder.checkpoints, keep=experiment.checkpoint.keep) as checkpoints:
    newest, end = max(checkpoints.steps(), default=0), experiment.num_steps
    return newest if newest >= end and checkpoints.newest_good() >= end else None


class Watch:
  """The outputs of a run: its metrics, evaluations, checkpoints and samples."""

  def __init__(self, run: compose.Run, folder, log, checkpoints, config):
    self.run, self.folder, self.log, self.checkpoints = run, folder, log, checkpoints
    e, mesh = run.experiment, run.plan.mesh
    self.eval_step = evaluate.make_eval_step(
      run.model.apply, run.trainer.objective, run.dataset.tokenizer.bytes_V
    )
    self.eval_batches = evaluate.spread(len(run.heldout), e.eval.batches)
    self.score = (-1, None)  # the step of the newest evaluation, and its score
    self.about = {
      "config": config,
      "data": run.dataset.digest,
      "tokenizer": run.dataset.tokenizer.digest,
      "versions": versions(),
    }
    if run.plan.teacher:
      self.about["teacher"] = run.plan.teacher.store.digest
    self.flops = model_flops(run)
    dtype = jnp.dtype(run.model.config.run.dtype)
    # A curve of evaluations over FLOPs needs a line of training at each of them.
    self.logged_every = {e.log.every, e.eval.every} - {0}
    self.unlogged, self.spent = [], {}  # since the last line: seconds, and by activity
    self.peak = platform.peak_flops(mesh.devices.flat[0], dtype) * mesh.size

  def hooks(self) -> list[Hook]:
    """Returns the hooks in order: a checkpoint has a score, and waits for no sample."""
    e = self.run.experiment
    return [
      Hook("eval", e.eval.every, self.evaluate),
      Hook("checkpoint", e.checkpoint.every, self.save),
      Hook("sample", e.eval.every if e.eval.sample_tokens else 0, self.sample),
    ]

  def report(self, n, metrics, seconds, spent):
    """Writes a line of metrics.jsonl where one is due, and moves the progress bar.

    The rate and the times are those of all updates since the line before. Tokens are
    the positions of the rows: padding, of which data.rows="first_fit" leaves a little,
    is computed as all else is, and counts.
    """
    e = self.run.experiment
    tokens = e.batch * e.seq
    self.unlogged.append(seconds)
    for name, share in spent.items():
      self.spent[name] = self.spent.get(name, 0.0) + share
    if n == e.num_steps or any(n % every == 0 for every in self.logged_every):
      step_s = sum(self.unlogged) / len(self.unlogged)
      metrics |= {
        "train/tokens_per_s": tokens / step_s,
        "train/mfu": platform.mfu(self.flops, step_s, self.peak),
        "train/seen_tokens": n * tokens,
        "train/flops": n * self.flops,
        "train/epoch": self.run.batches.epoch(n),
      }
      self.log.write(n, metrics | self.spent)
      self.unlogged, self.spent = [], {}
    self.log.progress(n, loss=metrics["train/loss"])

  def evaluate(self, n, state):
    """Evaluates the parameters (their moving average, if there is one)."""
    metrics = evaluate.evaluate(
      self.eval_step,
      state.ema or state.params,
      self.run.heldout.prefetch(self.eval_batches),
      given=state.given,
    )
    self.score = n, self.run.experiment.eval.score_of(metrics)
    self.log.write(n, metrics)
    self.log.say(f"step {n}: held out {_listed(metrics)}")

  def sample(self, n, state):
    """Adds a sample of the model's text to samples.txt."""
    count, context = (
      self.run.experiment.eval.sample_tokens,
      self.run.model.config.context,
    )
    if context:
      count = min(count, context - 1)  # it continues from one token
    if count < 1 or jax.process_count() > 1:
      return
    from lm.generate import stream

    [piece] = stream.generate(
      self.run.model,
      self.run.params(state),
      self.run.dataset.tokenizer,
      "",
      max_tokens=count,
      temperature=0.8,
      seed=self.run.experiment.seed,
    )
    heading, file = f"--- step {n}\n", self.folder.samples_file
    before = file.read_text("utf-8") if file.exists() else ""
    before = before.partition(heading)[0]  # a killed run had come this far
    atomic.write(file, f"{before}{heading}{piece.text}\n")

  def save(self, n, state):
    """Saves a checkpoint, with the score if this step was evaluated."""
    step, score = self.score
    score = score if step == n else None
    self.checkpoints.save(n, state.saved(), about=self.about, score=score)


def _listed(metrics: dict) -> str:
  """Returns the metrics in one line, without a "loss" that another name repeats."""
  values = {name.removeprefix("eval/"): value for name, value in metrics.items()}
  if list(values.values()).count(values["loss"]) > 1:
    del values["loss"]
  return ", ".join(f"{v:.4g} {name.replace('_', ' ')}" for name, v in values.items())


def model_flops(run: compose.Run) -> float:
  """Returns the FLOPs of one update, without those of recomputation."""
  abstract, key = run.trainer.abstract, jax.random.key(0)

  def loss(params, batch, given):
    sums = run.trainer.objective(run.model.apply, params, batch, key, given=given)
    return sums["loss"][0]

  return platform.model_flops(loss, abstract.params, run.batches.shapes, abstract.given)


def _resumed(run: compose.Run, checkpoints, log):
  """Returns (state, updates made) of the newest good checkpoint, (None, 0) without."""
  if not checkpoints.steps():
    return None, 0
  abstract = run.trainer.abstract
  state, step, about = checkpoints.restore(abstract.saved())
  if about["data"] != run.dataset.digest:
    raise Mistake(
      f"{', '.join(run.experiment.sources)} has changed since {checkpoints.folder} was "
      "written: its text or its tokenizer is another one now; take it back or choose "
      "another --workdir"
    )
  teacher = run.plan.teacher
  if teacher and about.get("teacher", teacher.store.digest) != teacher.store.digest:
    log(f"warning: the files of teacher={teacher.path} have changed since step {step}")
  log(f"continues after step {step} of {checkpoints.folder}")
  # `given` is never saved: `bind` has made it from the same data as at the start.
  given = jax.tree.map(
    lambda x, shape: jax.device_put(x, shape.sharding),
    run.trainer.given,
    abstract.given,
  )
  return state.replace(given=given), step


def _steps_before(folder) -> int:
  """Returns num_steps of the run as it was started before."""
  return folder.config()["num_steps"]


def _advice(folder, checkpoints) -> str:
  """Returns what is left of a run that diverged, and what to do with it."""
  checkpoints.wait()
  if not checkpoints.steps():
    return "nothing was saved yet: try a lower optim.lr or a longer optim.warmup"
  path = shlex.quote(str(folder.path.absolute()))
  return (
    f"the checkpoint of step {checkpoints.steps()[-1]} is good: continue from it with "
    f"a lower optim.lr, --config.init.path={path} and another --workdir"
  )
