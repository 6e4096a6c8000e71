"""A request on its way through the engine, and the slots that hold it."""

import jax
import jax.numpy as jnp
import numpy as np

from lm.errors import Mistake
from lm.generate import decode, slots
from lm.generate.edges import Forced
from lm.generate.prompts import pad_sources, validate_request
from lm.generate.sample import Sampling, validate
from lm.generate.slots import Drawn, Slots
from lm.serve.reading import SMALL, TOP, Reading
from lm.serve.requests import Failed, Request, Scored, Written

STOPS = 16  # the most ids that may end a text


def check(request: Request, model, *, size: int, width: int):
  """Raises Mistake for a request that slots of `size` tokens cannot serve.

  `width` is the number of a token's logits.
  """
  validate(request.sampling)
  if not request.ids:
    raise Mistake("a prompt needs at least one id to start from, got none")
  validate_request(model, [request.ids], [request.max_tokens], 1)
  if len(request.ids) + request.max_tokens > size:
    raise Mistake(
      f"a prompt of {len(request.ids)} tokens and max_tokens={request.max_tokens} do "
      f"not fit the {size} tokens of a row; shorten one of them"
    )
  for name in ("top", "prompt_top"):
    if not 0 <= (getattr(request, name) or 0) <= TOP:
      raise Mistake(f"{name} must be from 0 to {TOP}, got {getattr(request, name)}")
  if len(request.stops) > STOPS:
    raise Mistake(f"{len(request.stops)} ids end a text; wanted at most {STOPS}")
  ids = [id for id, _ in request.bias]
  if min((*request.ids, *(request.source or ()), *ids)) < 0:
    raise Mistake("a request has an id below 0")
  if max(ids, default=0) >= width:
    raise Mistake(f"a bias is for id {max(ids)}; the last one is {width - 1}")
  if model.traits.source != (request.source is not None):
    wanted = "a source" if model.traits.source else "no source"
    raise Mistake(f"the model reads {wanted}; got a request that differs")


class Row:
  """A request, what is read of its prompt, and what it may write next."""

  def __init__(self, ticket, base_V):
    self.ticket, self.request = ticket, ticket.request
    self.reading: Reading | None = None
    self._base_V, self.ids = base_V, []  # of the text so far

  @property
  def last(self) -> int:
    """The newest token, which the model has not read yet."""
    return self.ids[-1] if self.ids else self.request.ids[-1]

  def send(self, event):
    """Gives an event to whoever waits for it."""
    self.ticket.on_event(event)

  def bias_V(self) -> np.ndarray:
    """Returns what is added to the logits of the next token."""
    request, bias_V = self.request, self._base_V
    if request.bias or request.constraint is not None:
      bias_V = bias_V.copy()
    for id, value in request.bias:
      bias_V[id] += value
    if request.constraint is not None:
      allowed_V = np.asarray(request.constraint.allowed(), bool)[: len(bias_V)]
      bias_V[: len(allowed_V)][~allowed_V] = -np.inf
      bias_V[len(allowed_V) :] = -np.inf
    return bias_V

  def event(self, drawn: Drawn, number: int):
    """Returns the event of the newest tokens of a row; takes them to the constraint."""
    request, reason = self.request, drawn.reasons[number]
    if reason == "nan":
      return Failed(decode.NAN)
    count = drawn.counts_B[number]
    ids = tuple(drawn.ids_BT[number, :count].tolist())
    self.ids += ids
    if request.constraint is not None and reason is None:
      for id in ids:
        request.constraint.advance(id)
    scored = None
    if request.top is not None:
      scored = Scored(
        drawn.logprobs_BT[number, :count],
        drawn.top_ids_BTO[number, :count, : request.top],
        drawn.top_logprobs_BTO[number, :count, : request.top],
      )
    return Written(ids, scored, reason)


def width_of(model, params) -> int:
  """Returns V: the number of a token's logits, padding included."""
  return _prompt_shapes(model, params, 1, SMALL)[1].shape[1]


def _prompt_shapes(model, params, rows: int, size: int):
  """Returns the shapes of what `decode.prefill` gives for prompts of one token."""
  source = {}
  if model.traits.source:
    longest = model.config.context or size
    source = pad_sources(model, [[0] * longest] * rows, rows)
  tokens_BT, lengths_B = np.zeros((rows, SMALL), np.int32), np.ones(rows, np.int32)
  inputs = (params, tokens_BT, lengths_B, source)
  return jax.eval_shape(
    lambda *inputs: decode.prefill(model, *inputs, size=size), *inputs
  )


def empty(model, params, rows: int, *, size: int, columns: int, dtype) -> Slots:
  """Returns slots without a text: all rows are done; their cache is of a dtype."""
  cache, seen_BV = _prompt_shapes(model, params, rows, size)
  cache = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), cache)
  fields = _fields(rows, seen_BV.shape[1]) | dict(done_B=np.ones(rows, bool))
  cache = cache.as_dtype(dtype).ended(np.zeros(rows, np.int32))
  return slots.begin(cache, T=columns, top=TOP, **fields)


def one_row(reading: Reading, bias_V, *, columns: int, is_greedy=False) -> Slots:
  """Returns slots of the one row whose prompt was read; greedy ones never stop."""
  request, V = reading.request, len(bias_V)
  fields = _fields(1, V)
  length = np.array([len(request.ids)], np.int32)
  fields["seen_BV"][0, [id for id in request.ids if id < V]] = True
  first, last = request.forced
  fields |= dict(
    keys_B=slots.root_keys(request.seed, np.array([request.sample])),
    prompt_lengths_B=length,
    limits_B=np.array([request.max_tokens], np.int32),
    bias_BV=bias_V[None],
    last_B=np.array(request.ids[-1:], np.int32),
    scored_B=np.array([request.top is not None and not is_greedy]),
  )
  if not is_greedy:
    listed = sorted(request.stops)
    fields["stops_BO"][0, : len(listed)] = listed
    fields["sampling"] = request.sampling.rows(1, 1)
    fields["forced"] = Forced.of([first], last, 1)
  return slots.begin(reading.cache.ended(length - 1), T=columns, top=TOP, **fields)


def _fields(B: int, V: int) -> dict:
  """Returns the fields of slots that want nothing."""
  return dict(
    sampling=Sampling(temperature=0.0).rows(B, B),
    keys_B=slots.root_keys(0, np.zeros(B, np.int32)),
    prompt_lengths_B=np.ones(B, np.int32),
    limits_B=np.ones(B, np.int32),
    stops_BO=np.full((B, STOPS), -1, np.int32),
    bias_BV=np.zeros((B, V), np.float32),
    forced=Forced.of([None] * B, None, B),
    seen_BV=np.zeros((B, V), bool),
    last_B=np.zeros(B, np.int32),
    done_B=np.zeros(B, bool),
    scored_B=np.zeros(B, bool),
  )
