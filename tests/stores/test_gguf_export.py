"""Models as GGUF files: read back here, by the `gguf` package, transformers, llama.cpp.

What llama.cpp's quantiser does is read in src/llama-quant.cpp, and its converter in
conversion/llama.py.
"""

import dataclasses
import pathlib

import gguf
import jax
import llama_cpp
import numpy as np
import processes
import pytest
import torch
import transformers
from families import VOCAB
from gguf import GGMLQuantizationType as Kind
from hf_models import logits, saved

import lm
from lm import stores, trees
from lm.data import tokenizers
from lm.disk import gguf_blocks
from lm.letters import unbox
from lm.nn.positions.rotary import Rope
from lm.stores.hf import export

FLAVOURS = (
  "llama, tied, biases",
  "llama, attention biases, wide heads",
  "mistral, window",
  "qwen2",
  "qwen3",
)
TOKENS = np.arange(24).reshape(2, 12) * 7 % VOCAB


def written(tmp_path, store, **options) -> pathlib.Path:
  """Writes a.gguf, and nothing beside it; returns its path."""
  path = tmp_path / "a.gguf"
  stores.write(path, stores.open(store), **options)
  assert [file.name for file in tmp_path.glob("*a.gguf*")] == ["a.gguf"]
  return path


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_file_is_the_model_that_was_written(flavour, tmp_path):
  peer, folder = saved(flavour)
  lines = []
  path = written(tmp_path, folder, log=lines.append)
  windows = ["no window of 5"] * ("window" in flavour)
  assert [w in line for w, line in zip(windows, lines, strict=True)] == [True] * len(
    lines
  )
  model, params, tokenizer = lm.load(folder)
  again, same, none = lm.load(path)
  assert tokenizer is none is None
  assert export.function_of(again) == export.function_of(model)
  jax.tree.map(np.testing.assert_array_equal, same, params)
  # Its logits in transformers, which undoes the order of rows by code of its own, but
  # leaves out biases, scalings and windows, as its config has them where it is given.
  hf = None if "mistral" in flavour else peer.config
  hf_model = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, gguf_file=path.name, config=hf, dtype=torch.float32
  )
  seen = TOKENS[:, :5]  # within the window
  np.testing.assert_array_equal(logits(hf_model, seen), logits(peer, seen))


def test_llama_3_scaling(tmp_path):
  scaling = dict(scaling="llama3", factor=32.0, original_context=8192)
  scaling |= dict(low_turns=1.0, high_turns=4.0, theta=5e5)
  sizes = dict(preset="llama-tiny", vocab=99, width=32, heads=4, ff=64, layers=1)
  model = lm.model("decoder", **sizes, **scaling)
  params = unbox(model.init(jax.random.key(0), TOKENS)["params"])
  lm.save(tmp_path / "run", model, params, None)
  path = written(tmp_path, tmp_path / "run")
  rope = stores.open(path).model.config.rope
  assert rope == Rope(**scaling)
  hf_model = transformers.AutoModelForCausalLM.from_pretrained(
    written_as_folder(tmp_path)
  )
  [factors] = [
    t.data for t in gguf.GGUFReader(path).tensors if t.name == "rope_freqs.weight"
  ]
  plain = 5e5 ** (-np.arange(4) / 4)
  np.testing.assert_allclose(
    plain / factors, hf_model.model.rotary_emb.inv_freq, rtol=1e-6
  )
  lm.save(tmp_path / "odd", model.clone(config=with_rope(model, 2.0)), params, None)
  with pytest.raises(ValueError, match=r"Llama 3\.1's .* not low_freq_factor=2\.0"):
    stores.write(tmp_path / "odd.gguf", stores.open(tmp_path / "odd"))


def written_as_folder(tmp_path):
  stores.write(tmp_path / "hf", stores.open(tmp_path / "run"))
  return tmp_path / "hf"


def with_rope(model, low_turns):
  rope = dataclasses.replace(model.config.rope, low_turns=low_turns)
  return dataclasses.replace(model.config, rope=rope)


def tiny(folder, **fields):
  """Saves a small Llama with a tokenizer of bytes; returns (its model, parameters)."""
  fields = dict(preset="llama-tiny", width=64, heads=4, ff=96, layers=2) | fields
  model = lm.model("decoder", vocab=258, **fields)
  params = unbox(model.init(jax.random.key(1), TOKENS)["params"])
  draw = np.random.default_rng(0)
  noise = lambda x: np.float32(x + 0.1 * draw.standard_normal(x.shape))
  params = trees.nested(
    {p: x if "norm/bias" in p else noise(x) for p, x in trees.by_path(params).items()}
  )
  lm.save(folder, model, params, tokenizers.byte_tokenizer())
  return model, params


# dtype -> kinds of (matrices, the tied table), as llama.cpp's quantiser has them.
MATRICES = {
  "float32": ("F32", "F32"),
  "float16": ("F16", "F16"),
  "bfloat16": ("BF16", "BF16"),
  "q8_0": ("Q8_0", "Q8_0"),
  "q4_0": ("Q4_0", "Q8_0"),  # Q6_K where a row has whole blocks of 256
}


@pytest.mark.parametrize("dtype", MATRICES)
def test_dtypes(dtype, tmp_path):
  tiny(tmp_path / "run")
  exact = written(tmp_path, tmp_path / "run").rename(tmp_path / "exact.gguf")
  path = written(tmp_path, tmp_path / "run", dtype=dtype)
  reader, params = gguf.GGUFReader(path), {}
  before = {t.name: t for t in gguf.GGUFReader(exact).tensors}
  matrices, table = MATRICES[dtype]
  assert {t.name for t in reader.tensors} == set(before)
  for tensor in reader.tensors:
    values = before[tensor.name].data
    kind = table if tensor.name == "token_embd.weight" else matrices
    kind = "F32" if values.ndim == 1 else kind
    assert tensor.tensor_type.name == kind, tensor.name
    data = gguf.quants.quantize(values, Kind[kind])
    expected = gguf.quants.dequantize(data, Kind[kind])
    actual = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    np.testing.assert_array_equal(actual.reshape(values.shape), expected)
    params[tensor.name] = expected
  _, loaded, tokenizer = lm.load(path)
  table_VD = params["token_embd.weight"]
  np.testing.assert_array_equal(loaded["embed"]["table"][:258], table_VD)
  assert tokenizer.digest == lm.load(exact)[2].digest
  types = {"float32": 0, "float16": 1, "q4_0": 2, "q8_0": 7, "bfloat16": 32}
  assert reader.fields["general.file_type"].contents() == types[dtype]


def test_wide_tables_of_q4_0_have_six_bits(tmp_path):
  tiny(tmp_path / "run", width=256)
  kinds = {}
  for name, tied in (("tied", True), ("untied", False)):
    tiny(tmp_path / name, width=256, tied=tied)
    path = tmp_path / f"{name}.gguf"
    stores.write(path, stores.open(tmp_path / name), dtype="Q4_0")
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    kinds[name] = {n: t.tensor_type.name for n, t in tensors.items() if "blk" not in n}
  assert kinds["tied"]["token_embd.weight"] == "Q6_K"
  assert kinds["untied"]["token_embd.weight"] == "Q4_0"
  assert kinds["untied"]["output.weight"] == "Q6_K"


def rows_for_blocks() -> np.ndarray:
  draw = np.random.default_rng(0)
  rows = draw.standard_normal((40, 512), np.float32) * draw.uniform(1e-4, 9, (40, 1))
  rows[3, :256], rows[4, 16:48], rows[5] = 0, 0, 1e-20
  return np.float32(rows)


# The block of these numbers, by ggml_quantize_chunk of llama.cpp.
NUMBERS = np.float32(np.arange(256) * 37 % 101 - 50)
BLOCK = (
  "d158bf37be25ad048b047bf37ad159d0c941ea63eb74fb741d951ea72fc841c9bf35ad169b048df26be0"
  "69d147cf38bd1a922c840d85ed77ff57d038b04aa22b67df58c139b22aa22b931c85fd76ee57ce5ad137"
  "b31a902c830f86ec78ff55d1c841da62eb63fc840d951ea63fb840c9d129b30b931c74fe86de67ff47d1"
  "29b118b1c66cb11b6c861b71c61cb1c76cb22453f9248ef9138ef4538d2452f9248ed4a209d47e09a37e"
  "14a349d4ae09d77ec863be1463c9147ec923bec463bd1463807f897a867a84877f737d7a81877c8975a2"
)


def test_blocks_of_six_bits():
  assert gguf_blocks.quantise(NUMBERS, "Q6_K").tobytes().hex() == BLOCK
  rows = rows_for_blocks()
  data = gguf_blocks.quantise(rows, "Q6_K")
  back = gguf.quants.dequantize(data, Kind.Q6_K)
  largest = np.abs(rows).reshape(40, -1, 16).max(-1)
  error = np.abs(back - rows).reshape(40, -1, 16).max(-1)
  # Half a step of 63, the scale's own rounding to 7 bits, and its search.
  assert (error <= largest / 63 * 1.7 + 1e-19).all()
  five = gguf.quants.quantize(rows, Kind.Q5_0)
  worse = gguf.quants.dequantize(five, Kind.Q5_0)
  assert np.square(back - rows).mean() < 0.4 * np.square(worse - rows).mean()
  # What is on the grid already stays as it is.
  again = gguf_blocks.quantise(back, "Q6_K")
  np.testing.assert_allclose(
    gguf.quants.dequantize(again, Kind.Q6_K), back, rtol=0.02, atol=1e-5
  )


def test_a_run_that_was_trained(tmp_path):
  """Trains a shrunk llama-tiny, converts it, and generates the same text."""
  text, run = processes.corpus(tmp_path), tmp_path / "run"
  values = dict(model__preset="llama-tiny", model__dtype="float32")
  result = processes.run("train", *processes.flags(run, text, **values))
  assert result.code == 0, result.err
  path = tmp_path / "out" / "run.gguf"
  result = processes.run("convert", f"--from={run}", f"--to={path}")
  assert result.code == 0 and result.err == "", result.err
  assert f"generate --workdir={path}" in result.out
  model, params, tokenizer = lm.load(run)
  again, same, bytes_again = lm.load(path)
  assert export.function_of(again) == export.function_of(model)
  for tree in (same, params):
    tree["embed"]["table"] = tree["embed"]["table"][: tokenizer.size]  # no padding
  jax.tree.map(np.testing.assert_array_equal, same, params)
  assert bytes_again.encode("To bé").tolist() == tokenizer.encode("To bé").tolist()
  flags = ("--prompt=the quick", "--max_tokens=8", "--temperature=0")
  outs = [processes.run("generate", f"--workdir={d}", *flags).out for d in (run, path)]
  assert outs[0] == outs[1] and outs[0].startswith("the quick")


def test_mistakes(tmp_path):
  names = "llama, qwen2, qwen3, mistral"
  for flavour, kind in (("gpt2", "gpt2"), ("t5", "encdec"), ("gemma3", "gemma")):
    with pytest.raises(ValueError, match=f"is a {kind}.*; GGUF .* {names}$"):
      stores.write(tmp_path / "a.gguf", stores.open(saved(flavour)[1]))
  tiny(tmp_path / "run")
  store = stores.open(tmp_path / "run")
  with pytest.raises(ValueError, match=r"no dtype 'q2_k'; found: float32, .*, q4_0"):
    stores.write(tmp_path / "a.gguf", store, dtype="q2_k")
  tiny(tmp_path / "geglu", activation="geglu")
  with pytest.raises(ValueError, match="of llama cannot say activation='geglu'"):
    stores.write(tmp_path / "a.gguf", stores.open(tmp_path / "geglu"))
  (tmp_path / "file").write_text("")
  with pytest.raises(
    ValueError, match=r"a\.gguf could not be made: .*; choose a folder"
  ):
    stores.write(tmp_path / "file" / "a.gguf", store)
  assert not list(tmp_path.glob("*a.gguf*"))
  stores.write(tmp_path / "a.gguf", store)
  with pytest.raises(ValueError, match=r"a\.gguf exists; choose another"):
    stores.write(tmp_path / "a.gguf", store)


def distance(peer, path, texts=(), prompts=()) -> float:
  """Returns the largest difference to llama.cpp in units of the logits' deviation."""
  model, params, tokenizer = lm.load(path)
  for text in texts:
    prompts = [*prompts, tokenizer.prompt(text).tolist()]
    assert peer.ids(text) == prompts[-1]
  differences = []
  for ids in prompts:
    V = model.config.vocab
    logits_V = model.apply({"params": params}, np.array([ids]))[0][0, -1, :V]
    expected_V = peer.logprobs(ids, V)
    assert np.isfinite(expected_V).all()
    difference = np.abs(jax.nn.log_softmax(logits_V) - expected_V).max()
    differences.append(difference / expected_V.std())
  return max(differences)


# dtype -> the limit: activations have 8 bits there too where the weights have fewer.
LLAMA_CPP = {"float32": 1e-4, "q8_0": 0.3, "q4_0": 0.3}


@pytest.mark.parametrize("dtype", LLAMA_CPP)
def test_llama_cpp_gives_the_same(dtype, tmp_path):
  tiny(tmp_path / "run", width=256, heads=4)
  path = written(tmp_path, tmp_path / "run", dtype=dtype)
  peer = llama_cpp.Model(path)
  texts = ("To b\u00e9 or not", " \u4eba\u4eba  two\n\ttab", "x=1948")
  assert distance(peer, path, texts) < LLAMA_CPP[dtype]


YARN = dict(scaling="yarn", factor=4.0, original_context=16, high_turns=32.0)
LLAMA_3 = dict(scaling="llama3", factor=8.0, original_context=8192, low_turns=1.0)
VARIANTS = {
  "biases": dict(bias=True, head_size=32),
  "llama 3.1": LLAMA_3 | dict(high_turns=4.0, theta=5e5, kv_heads=2),
  "linear": dict(scaling="linear", factor=2.0),
  "qwen2, YaRN": dict(qkv_bias=True) | YARN,
  "qwen3, untied": dict(qk_norm="head", head_size=32, tied=False),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_llama_cpp_reads_every_variant(variant, tmp_path):
  tiny(tmp_path / "run", **VARIANTS[variant])
  path = written(tmp_path, tmp_path / "run")
  text = "To be, or not to be, that is the question"
  assert distance(llama_cpp.Model(path), path, [text]) < 1e-4
