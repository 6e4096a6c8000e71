"""What a training run shows and keeps: metrics, evaluations, samples, checkpoints."""

import jax
import jax.numpy as jnp

from experiments import compose
from lm import evaluate, metrics, platform
from lm.generate import stream
from lm.letters import state_dims
from lm.stores.run import manifest, versions, write
from lm.study import curves
from lm.train import Hook


class Watch:
  """The report and the hooks of one run."""

  def __init__(self, cfg, folder, log, *, model, parts, prepared, mesh, checkpoints):
    self.cfg, self.folder, self.log, self.model = cfg, folder, log, model
    self.prepared, self.checkpoints, self.mesh = prepared, checkpoints, mesh
    self.primary = jax.process_index() == 0
    self.heldout = compose.loader(cfg, prepared, "heldout", seed=None, mesh=mesh)
    self.eval_step = evaluate.make_eval_step(
      model.apply, parts.objective, self.heldout.bytes_V
    )
    self.score = (-1, None)  # the step of the newest evaluation, and what it gave
    self.about = {
      "config": cfg.to_dict(),
      "data": prepared.digest,
      "tokenizer": prepared.tokenizer.digest,
      "versions": versions(),
    }
    self.model_flops = model_flops(cfg, model, parts)
    dtype = jnp.dtype(model.config.run.dtype)
    self.peak = platform.peak_flops(mesh.devices.flat[0], dtype) * mesh.size
    if self.primary:
      letters = state_dims(parts.abstract, parts.abstract.params, parts.letters)
      write(folder.path / "manifest.txt", manifest(parts.abstract, letters))

  def report(self, loader, n, metrics, seconds, spent):
    """One line of metrics.jsonl after `n` updates, and the progress bar.

    Tokens are the places of the rows: padding, of which data.pack="first_fit" leaves a
    little, is computed as all else is, and counts.
    """
    tokens = self.cfg.batch * self.cfg.seq
    metrics |= {
      "train/tokens_per_s": tokens / seconds,
      "train/mfu": platform.mfu(self.model_flops, seconds, self.peak),
      "train/seen_tokens": n * tokens,
      "train/flops": n * self.model_flops,
      "train/epoch": loader.epoch(n),
    }
    self.log.write(n, metrics | spent)
    shown = {name: metrics[f"train/{name}"] for name in ("loss", "tokens_per_s")}
    self.log.progress(n, **shown)

  def hooks(self):
    """In this order: a checkpoint knows the score, and waits for no sample."""
    watched = self.cfg.eval.every
    return [
      Hook("eval", watched, self.evaluate),
      Hook("checkpoint", self.cfg.checkpoint.every, self.save),
      Hook("sample", watched if self.cfg.eval.sample_tokens else 0, self.sample),
      Hook("curves", 0, self.draw),
    ]

  def evaluate(self, n, state):
    steps = evaluate.spread(len(self.heldout), self.cfg.eval.batches)
    params = state.ema if self.cfg.optim.ema else state.params
    found = evaluate.evaluate(self.eval_step, params, map(self.heldout, steps))
    self.score = n, next(iter(found.values()))
    self.log.write(n, found)
    known = [unit for unit in metrics.UNITS if f"eval/{unit}" in found]
    told = [f"{found[f'eval/{unit}']:.3f} {unit.replace('_', ' ')}" for unit in known]
    self.log.say(f"step {n}: held out {', '.join(told)}")

  def sample(self, n, state):
    most, context = self.cfg.eval.sample_tokens, self.model.config.context
    if context:
      most = min(most, context - 1)  # it goes on from one token
    if most < 1 or jax.process_count() > 1:
      return
    params = state.ema if self.cfg.optim.ema else state.params
    [piece] = stream.generate(
      self.model,
      params,
      self.prepared.tokenizer,
      "",
      max_tokens=most,
      temperature=0.8,
      seed=self.cfg.seed,
    )
    head, file = f"--- step {n}\n", self.folder.samples_file
    before = file.read_text("utf-8") if file.exists() else ""
    before = before.partition(head)[0]  # a killed run came this far before
    write(file, f"{before}{head}{piece.text}\n")

  def save(self, n, state):
    at, score = self.score
    self.checkpoints.save(n, state, about=self.about, score=score if at == n else None)

  def draw(self, n, state):
    if self.primary:
      curves.draw(self.folder.metrics_file, self.folder.curves_file)


def model_flops(cfg, model, parts) -> float:
  """FLOPs that one update takes by the book, whatever is recomputed."""
  key = jax.random.key(0)
  loss = lambda params, batch: parts.objective(model.apply, params, batch, key)
  return platform.model_flops(loss, parts.abstract.params, compose.shapes(cfg))
