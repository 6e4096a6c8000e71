"""Lists of ids into arrays of a few sizes, and whether they fit the model."""

import numpy as np

from lm.errors import Mistake


def bucket(size: int, smallest: int = 16) -> int:
  """The next of 16, 24, 32, 48, 64, 96... (with `smallest` for 16)."""
  power = smallest
  while power < size:
    power *= 2
  return power * 3 // 4 if power > smallest and size <= power * 3 // 4 else power


def pad_prompts(prompts):
  """tokens_BT and lengths_B (numpy) of the id sequences, padded to buckets.

  Rows that fill the batch up hold one token. Raises Mistake on an empty prompt.
  """
  lengths = [len(prompt) for prompt in prompts]
  if not lengths or min(lengths) < 1:
    raise Mistake("a prompt needs at least one id to start from, got none")
  B = bucket(len(prompts), 1)
  tokens_BT = np.zeros((B, bucket(max(lengths))), np.int32)
  for row, prompt in enumerate(prompts):
    tokens_BT[row, : len(prompt)] = prompt
  return tokens_BT, np.array(lengths + [1] * (B - len(lengths)), np.int32)


def pad_sources(model, sources, rows: int) -> dict:
  """The arrays of the sources that a model reads, {} for one that reads none.

  Padded to buckets, like the prompts beside them: to `rows` rows, those that fill the
  batch up with one token. Raises Mistake when the model reads sources and there are
  none, or the other way round, and for a source that is empty or too long.
  """
  has_source = model.traits.source
  if has_source != (sources is not None):
    wanted = "a source for each prompt" if has_source else "prompts alone"
    raise Mistake(f"the model reads {wanted}, sources were given: {not has_source}")
  if sources is None:
    return {}
  source_BS, lengths_B = pad_prompts(sources)
  context = model.config.context
  if context and max(map(len, sources)) > context:
    raise Mistake(
      f"a source of {max(map(len, sources))} tokens does not fit the model's context "
      f"of {context}; shorten it"
    )
  if len(source_BS) != rows:
    raise Mistake(f"{len(sources)} sources for another number of prompts")
  real_BS = np.arange(source_BS.shape[1])[None] < lengths_B[:, None]
  return {"source_BS": source_BS, "source_segments_BS": real_BS.astype(np.int32)}


def generates(model) -> bool:
  """Whether a model goes on from a text; encoders and word vectors do not."""
  return model.traits.decodes


def check_room(model, prompts, limits, n):
  """Raises Mistake when nothing is asked for, or more than the context can hold."""
  if not generates(model):
    family = type(model).__module__.rpartition(".")[2]
    raise Mistake(f"family {family!r} writes no text: it has no cache to go on from")
  if n < 1:
    raise Mistake(f"n must be 1 or more samples of each prompt, got {n}")
  if len(limits) and min(limits) < 1:
    raise Mistake(f"max_tokens must be 1 or more, got {min(limits)}")
  context = model.config.context
  for prompt, limit in zip(prompts, limits, strict=True):
    room = context - len(prompt)
    if context and limit > room:
      advice = f"ask for at most {room} tokens or " if room > 0 else ""
      raise Mistake(
        f"a prompt of {len(prompt)} tokens and max_tokens={limit} do not fit the "
        f"model's context of {context}; {advice}shorten the prompt"
      )


def stop_row(stops):
  """The stop ids as an array of a few sizes, filled up with -1, which is no id."""
  stops = np.array(sorted(stops), np.int32)
  return np.pad(stops, (0, bucket(stops.size, 4) - stops.size), constant_values=-1)
