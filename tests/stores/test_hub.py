"""Models by name, from a small server that stands for the hub."""

import numpy as np
import processes
import pytest
from hubs import NAME, SHA, environment, serving

import lm
from lm import stores
from lm.data import tokenizers


@pytest.fixture(scope="module")
def model():
  return lm.model("decoder", preset="gpt2-tiny", vocab=256, width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
  """A Hugging Face folder, with files that nobody wants."""
  base = tmp_path_factory.mktemp("small")
  params, _ = lm.fit(model, None, rows, num_steps=1)
  lm.save(base / "run", model, params, tokenizers.byte_tokenizer())
  stores.write(base / "hf", stores.open(base / "run"), log=lambda line: None)
  for name in ("pytorch_model.bin", "onnx/model.onnx", "other/x.safetensors"):
    (base / "hf" / name).parent.mkdir(exist_ok=True)
    (base / "hf" / name).write_bytes(b"not wanted")
  return base / "hf"


def rows(step):
  ids = np.arange(16, dtype=np.int32).reshape(2, 8)
  return dict(tokens_BT=ids, targets_BT=ids + 1, weights_BT=np.ones((2, 8), "f4"))


def generate(name, env):
  flags = [f"--workdir=hf:{name}", "--prompt=ab", "--max_tokens=4", "--seed=1"]
  return processes.fresh("generate", *flags, env=env)


def test_a_name_is_the_folder_of_its_files(folder, tmp_path):
  expected = processes.run(
    "generate", f"--workdir={folder}", "--prompt=ab", "--max_tokens=4", "--seed=1"
  )
  with serving(folder) as server:
    env = environment(server, tmp_path)
    for name in (NAME, f"{NAME}@v1", f"{NAME}@{SHA}"):
      result = generate(name, env)
      assert (result.code, result.out) == (0, expected.out), result.err
  fetched = {name for command, name in server.requests if command == "GET"}
  assert "model.safetensors" in fetched and "config.json" in fetched
  assert not fetched & {"pytorch_model.bin", "onnx/model.onnx", "other/x.safetensors"}
  got = [name for command, name in server.requests if command == "GET"]
  assert len(got) == len(fetched)  # each file once
  # The server is gone; what is in the cache needs none.
  result = generate(NAME, env | {"HF_HUB_OFFLINE": "1"})
  assert (result.code, result.out) == (0, expected.out), result.err


@pytest.mark.parametrize(
  "name, faults, message",
  [
    ("org/none", {}, "hf:org/none does not exist, or is private: check its name, or"),
    ("org/gated", {}, "hf:org/gated is gated: accept its terms"),
    (f"{NAME}@v9", {}, f"hf:{NAME} has no revision 'v9'"),
    ("small", {}, "hf:small; wanted hf:organisation/name"),
    ("org/a b", {}, "hf:org/a b is no name of a model: "),
    (NAME, dict(missing=["config.json"]), f"hf:{NAME} could not be fetched ("),
    (NAME, dict(cut=["model.safetensors"]), f"hf:{NAME} could not be fetched ("),
  ],
)
def test_what_cannot_be_had_is_one_line(name, faults, message, folder, tmp_path):
  with serving(folder, **faults) as server:
    result = generate(name, environment(server, tmp_path))
  assert result.code == 2
  [line] = [x for x in result.err.splitlines() if x.startswith("error: ")]
  assert message in line and "Traceback" not in result.err


def test_without_a_network_it_says_so(folder, tmp_path):
  with serving(folder) as server:
    env = environment(server, tmp_path)
  for more in ({}, {"HF_HUB_OFFLINE": "1"}):
    result = generate(NAME, env | more)
    assert result.code == 2 and f"hf:{NAME} could not be fetched (" in result.err
    assert "Traceback" not in result.err
