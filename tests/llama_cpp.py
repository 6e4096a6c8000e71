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
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity = False, -1
    # Else keys, values and flash attention are in float16.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    kinds = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED
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
    [*_, whole] = self.ids("a")  # of part of a character the answer leaves them out
    answer = self._ask(
      "completion",
      prompt=[int(id) for id in ids],
      n_predict=1,
      n_probs=size,
      temperature=0,
      logit_bias=[[whole, 1000]],  # sampled then, and no part of the probabilities
      cache_prompt=False,
    )
    logprobs_V = np.full(size, -np.inf, np.float32)
    for token in answer["completion_probabilities"][0]["top_logprobs"]:
      logprobs_V[token["id"]] = token["logprob"]
    return logprobs_V
