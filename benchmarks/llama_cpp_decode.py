"""Greedy decoding of several prompts at once by llama.cpp, for benchmarks/decode.py.

By the server of `pip install xllamacpp`, in this process: a slot for each prompt.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import xllamacpp

CONTEXT = 256  # positions of each slot


class Program:
  """A .gguf file in memory, and its prompts of as many ids each."""

  def __init__(self, path, prompts_BT, new: int):
    B, T = prompts_BT.shape
    assert T + new <= CONTEXT
    cores, self._prompts_BT = len(os.sched_getaffinity(0)), prompts_BT
    params = xllamacpp.CommonParams()
    params.model.path, params.verbosity = str(path), -1
    params.n_parallel, params.n_ctx = B, B * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores
    self._server, self._pool = xllamacpp.Server(params), ThreadPoolExecutor(B)
    self.nbytes = os.path.getsize(path)

  def generate(self, count: int):
    """Continues each prompt by `count` tokens."""
    list(self._pool.map(lambda ids: self._continue(ids, count), self._prompts_BT))

  def _continue(self, ids, count: int):
    body = {"prompt": ids.tolist(), "max_tokens": count, "temperature": 0}
    body |= {"cache_prompt": False, "ignore_eos": True}
    answer = self._server.handle_completions(body)
    assert answer["usage"]["completion_tokens"] == count, answer
