"""Greedy decoding of several prompts at once by llama.cpp, for benchmarks/decode.py.

By the C functions that llama-cpp-python binds; its own class has one text at a time.
"""

import os

import llama_cpp
import numpy as np

CONTEXT = 256  # positions of each prompt: the unit of llama.cpp's cache


class Program:
  """A .gguf file in memory, and its prompts of as many ids each."""

  def __init__(self, path, prompts_BT, new: int):
    B, T = prompts_BT.shape
    assert T + new <= CONTEXT
    self._prompts_BT, cores = prompts_BT, len(os.sched_getaffinity(0))
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
    assert self._model, path
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = B * CONTEXT, B
    settings.n_batch = settings.n_ubatch = B * T
    settings.n_threads = settings.n_threads_batch = cores
    self._context = llama_cpp.llama_init_from_model(self._model, settings)
    vocab = llama_cpp.llama_model_get_vocab(self._model)
    self._V = llama_cpp.llama_vocab_n_tokens(vocab)
    self._batch = llama_cpp.llama_batch_init(B * T, 0, 1)
    self.nbytes = llama_cpp.llama_model_size(self._model)

  def generate(self, count: int) -> np.ndarray:
    """Returns the ids that follow each prompt, `count` of them."""
    memory = llama_cpp.llama_get_memory(self._context)
    llama_cpp.llama_memory_clear(memory, True)
    B, T = self._prompts_BT.shape
    out_BT = np.empty((B, count), np.int32)
    out_BT[:, 0] = self._step(self._prompts_BT, 0)
    for i in range(1, count):
      out_BT[:, i] = self._step(out_BT[:, i - 1 : i], T + i - 1)
    return out_BT

  def _step(self, ids_BT, start: int) -> list[int]:
    """Returns the likeliest next id of each row, whose ids begin at a position."""
    batch, (B, T) = self._batch, ids_BT.shape
    batch.n_tokens = B * T
    for i, id in enumerate(ids_BT.ravel()):
      batch.token[i], batch.pos[i] = int(id), start + i % T
      batch.n_seq_id[i], batch.seq_id[i][0] = 1, i // T
      batch.logits[i] = i % T == T - 1
    status = llama_cpp.llama_decode(self._context, batch)
    assert status == 0, status
    return [self._likeliest(row * T + T - 1) for row in range(B)]

  def _likeliest(self, index: int) -> int:
    logits = llama_cpp.llama_get_logits_ith(self._context, index)
    return int(np.ctypeslib.as_array(logits, (self._V,)).argmax())
