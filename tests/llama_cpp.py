"""llama.cpp as `pip install xllamacpp` brings it, where it is: ids and logits."""

import json
import urllib.request

import numpy as np
import pytest

REASON = "xllamacpp is not installed, which brings llama.cpp to read GGUF files"


class Model:
  """A .gguf file in the server of llama.cpp, on a port of this machine."""

  def __init__(self, path, context=128):
    xllamacpp = pytest.importorskip("xllamacpp", reason=REASON)
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), context, 1
    params.cpuparams.n_threads, params.warmup, params.verbosity = 1, False, -1
    self._server = xllamacpp.Server(params)

  def _ask(self, verb: str, **body):
    request = urllib.request.Request(
      f"{self._server.listening_address}/{verb}",
      json.dumps(body).encode(),
      {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as response:
      return json.load(response)

  def ids(self, text: str) -> list[int]:
    """Returns the ids of a text, with those around it."""
    return self._ask("tokenize", content=text, add_special=True)["tokens"]

  def logprobs(self, ids, size: int) -> np.ndarray:
    """Returns the log-probability of each id of a vocabulary behind these ids."""
    answer = self._ask(
      "completion",
      prompt=[int(id) for id in ids],
      n_predict=1,
      n_probs=size,
      temperature=0,
      cache_prompt=False,
    )
    logprobs_V = np.full(size, -np.inf, np.float32)
    for token in answer["completion_probabilities"][0]["top_logprobs"]:
      logprobs_V[token["id"]] = token["logprob"]
    return logprobs_V

  def continued(self, ids, count: int) -> list[int]:
    """Returns the likeliest ids that follow."""
    answer = self._ask(
      "completion",
      prompt=[int(id) for id in ids],
      n_predict=count,
      n_probs=1,
      temperature=0,
      cache_prompt=False,
      ignore_eos=True,
    )
    return [token["id"] for token in answer["completion_probabilities"]]
