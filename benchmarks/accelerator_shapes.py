"""Sizes of benchmarks/accelerator.py, for our side and for the peers."""

from dataclasses import dataclass

GPT2 = dict(preset="gpt2_124m", vocab=50_304, width=768, layers=12, heads=12, ff=3072)
LLAMA = dict(preset="llama_160m", vocab=32_000, width=768, layers=12, heads=12, ff=3072)
SMALL = dict(vocab=256, width=64, layers=2, heads=4, kv_heads=4, ff=128)


@dataclass(frozen=True, kw_only=True)
class Sizes:
  """Sizes of all sections; a model is given by fields of lm.models.decoder."""

  trained: dict  # name -> (the model, rows of an update, tokens of a row)
  decoded: dict  # a model; of so few layers that it compiles in time unrolled
  batches: tuple  # rows decoded at once
  prompt: int = 32  # tokens of a prompt
  new: int  # tokens of its greedy continuation
  rounds: int  # in which the sides of a measurement take turns
  round_s: float  # about how long an update is repeated in a round
  patience: int = 1  # deadlines are so many times as late


FULL = Sizes(
  trained={"gpt2-124m": (GPT2, 32, 1024), "llama-160m": (LLAMA, 8, 2048)},
  decoded=LLAMA,
  batches=(1, 16, 64),
  new=128,
  rounds=3,
  round_s=1.0,
)
TINY = Sizes(
  trained={"gpt2-124m": (GPT2 | SMALL, 2, 32), "llama-160m": (LLAMA | SMALL, 2, 32)},
  decoded=LLAMA | SMALL,
  batches=(1, 3),
  new=4,
  rounds=1,
  round_s=0.0,
  patience=20,
)


def sizes(tiny: bool) -> Sizes:
  return TINY if tiny else FULL


def repeats(step_s: float, round_s: float) -> int:
  """Returns the number of updates of a round, 2 to 20."""
  return round(min(20, max(2, round_s / step_s)))
