"""A model of ours as a model of lm-eval."""

import numpy as np
from lm_eval.api.model import TemplateLM

from lm.errors import Mistake
from lm.generate import chat
from lm.generate.score import Request
from lm.tasks.harness.requests import DEFAULT_TOKENS, Answerer


class Adapter(TemplateLM):
  """The methods by which lm_eval 0.4.13 asks a model, each answered by an Answerer."""

  def __init__(self, answerer: Answerer):
    super().__init__()
    self._answerer, self._template = answerer, answerer.tokenizer.chat_template
    self.backend = "seq2seq" if answerer.model.traits.source else "causal"

  @property
  def eot_token_id(self):
    """The id that ends a document, or None."""
    return self._answerer.tokenizer.eos

  @property
  def prefix_token_id(self) -> int:
    """The id that an empty context stands for."""
    return self._answerer.prefix

  @property
  def max_length(self) -> int:
    """The longest input in tokens."""
    return self._answerer.size

  @property
  def max_gen_toks(self) -> int:
    """The limit of a continuation that names none, in tokens."""
    return DEFAULT_TOKENS

  def tok_encode(self, string, add_special_tokens=None, **kwargs) -> list[int]:
    """Returns the ids of a text, see `Answerer.encode`."""
    return self._answerer.encode(string, add_special_tokens).tolist()

  def loglikelihood(self, requests, disable_tqdm=False) -> list[tuple[float, bool]]:
    """Returns (log-probability, is greedy) of continuations given their contexts."""
    return self._answerer.continuations([request.args for request in requests])

  def loglikelihood_rolling(self, requests, disable_tqdm=False) -> list[float]:
    """Returns the log-probability of whole texts."""
    return self._answerer.texts([request.args[0] for request in requests])

  def generate_until(self, requests, disable_tqdm=False) -> list[str]:
    """Returns continuations of contexts, each with its generation_kwargs."""
    return self._answerer.written([request.args for request in requests])

  def _loglikelihood_tokens(self, requests, **kwargs) -> list[tuple[float, bool]]:
    """Returns the same of requests that are encoded: (texts, context, continuation)."""
    pairs = [map(np.array, request[-2:]) for request in requests]
    return self._answerer.of_ids([Request(*pair) for pair in pairs])

  def apply_chat_template(self, chat_history, add_generation_prompt=True) -> str:
    """Returns the text of a conversation by the model's own template.

    Without the generation prompt it ends with the last message, to be continued.
    """
    variables = self._answerer.tokenizer.special_tokens
    variables |= {"add_generation_prompt": add_generation_prompt}
    text = chat.render(self.chat_template(), chat_history, **variables)
    if add_generation_prompt:
      return text
    last = chat_history[-1]["content"].strip()
    before, _, _ = text.rpartition(last)
    return before + last

  def chat_template(self, chat_template=True) -> str:
    """Returns the template of the tokenizer; Mistake when there is none."""
    if self._template is None:
      raise Mistake("the tokenizer has no chat template; leave out apply_chat_template")
    return self._template

  @property
  def tokenizer_name(self) -> str:
    """The identity of the tokenizer, by which lm-eval keeps requests."""
    return self._answerer.tokenizer.digest
