"""Our safetensors: files that the library writes are read, files are written that it
reads, and a damaged or hostile file is a one-line error."""

import json
import struct

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hf_models import write
from hypothesis import example, given

from lm.disk.safetensors import DTYPES, File, NewFile, Tensor

TORCH = {
  "BOOL": torch.bool,
  "U8": torch.uint8,
  "I8": torch.int8,
  "F8_E5M2": torch.float8_e5m2,
  "F8_E4M3": torch.float8_e4m3fn,
  "F8_E8M0": torch.float8_e8m0fnu,
  "I16": torch.int16,
  "F16": torch.float16,
  "BF16": torch.bfloat16,
  "I32": torch.int32,
  "F32": torch.float32,
  "C64": torch.complex64,
  "F64": torch.float64,
  "I64": torch.int64,
}


def tensors():
  """Returns a tensor of every dtype of torch, all its bytes different."""
  raw = torch.arange(48, dtype=torch.uint8).reshape(2, 24)
  tensor_of_name = {
    f"a.{name}": raw.clone().view(dtype) for name, dtype in TORCH.items()
  }
  tensor_of_name["a.BOOL"] = raw % 2 == 0
  return tensor_of_name | {"scalar": torch.tensor(3.0), "none": torch.zeros(0, 5)}


def raw_bytes(array) -> bytes:
  return np.ascontiguousarray(array).tobytes()


@pytest.fixture
def path(tmp_path):
  return tmp_path / "a.safetensors"


def test_what_the_library_writes_is_read(path):
  expected = tensors()
  safetensors.torch.save_file(expected, path, metadata={"format": "pt"})
  file = File(path)
  assert file.metadata == {"format": "pt"}
  assert set(file.tensors) == set(expected)
  for name, tensor in expected.items():
    actual = file.read(name)
    assert actual.shape == tensor.shape and not (actual.size and actual.flags.writeable)
    assert raw_bytes(actual) == raw_bytes(tensor.reshape(-1).view(torch.uint8).numpy())
    if tensor.dtype.is_floating_point:
      np.testing.assert_array_equal(
        actual.astype(np.float64), tensor.to(torch.float64).numpy()
      )
  file.forget()
  assert float(file.read("scalar")) == 3.0


def test_what_is_written_is_what_the_library_writes(path, tmp_path):
  safetensors.torch.save_file(tensors(), path, metadata={"format": "pt"})
  file, rewritten = File(path), tmp_path / "b.safetensors"
  write(rewritten, file.tensors, file.read, metadata=file.metadata)
  assert rewritten.read_bytes() == path.read_bytes()


def test_float4_is_two_to_a_byte(path):
  values = np.array([[0.5, -6.0, 0.0], [1.5, 3.0, 1.0]], DTYPES["F4"][0])
  write(path, {"x": Tensor("F4", (2, 3))}, lambda name: values)
  assert path.stat().st_size % 8 == 3
  np.testing.assert_array_equal(File(path).read("x"), values)


def test_what_was_put_stays_when_a_file_is_gone_on_with(path, tmp_path):
  safetensors.torch.save_file(tensors(), path)
  file, rewritten = File(path), tmp_path / "b.safetensors"
  names = sorted(file.tensors)
  for part in (names[::2], names[1::2]):
    with NewFile(rewritten, file.tensors) as new:
      for name in part[::-1]:
        new.put(name, file.read(name))
  assert rewritten.read_bytes() == path.read_bytes()


# Refused files


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def built(header, data=b"\0" * 8, length=None) -> bytes:
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(text) if length is None else length
  return struct.pack("<Q", length) + text + data


HOSTILE = {
  "empty": (b"", "cut off"),
  "a pickle": (b"\x80\x04\x95" + b"0" * 40, "is a pickle, which would run code"),
  "a zip of pickles": (b"PK\x03\x04" + b"0" * 40, "is a pickle"),
  "a header of 1 GB": (built({}, length=1 << 30), "cut off: 18 bytes, of which the"),
  "a header of 2^64": (built({}, length=(1 << 64) - 1), "cut off"),
  "no JSON": (built(b"{]"), "damaged header"),
  "not UTF-8": (built(b'{"\xff":1}'), "damaged header"),
  "a list": (built(b"[]"), "does not begin with {"),
  "deep": (built(b'{"a":' + b"[" * 99_999), "damaged header"),
  "a long number": (built(b'{"a":' + b"9" * 9999 + b"}"), "damaged header"),
  "duplicate": (
    built(b'{"x":' + json.dumps(entry()).encode() + b',"x":' + b"1}"),
    "'x' is in it twice",
  ),
  "twice within": (built(b'{"x":{"dtype":"F32","dtype":"F32"}}'), "'dtype' is in it"),
  "truncated": (built({"x": entry()}, b"\0" * 7), "has 7 bytes of tensors, its header"),
  "more than declared": (built({"x": entry()}, b"\0" * 9), "has 9 bytes of tensors"),
  "overlap": (
    built({"x": entry(), "y": entry(offsets=(4, 12))}, b"\0" * 12),
    "y begins at 4, overlaps",
  ),
  "a gap": (built({"x": entry(offsets=(4, 12))}, b"\0" * 12), "leaves a gap"),
  "backwards": (built({"x": entry(offsets=(8, 0))}), "takes 8 bytes, and has -8"),
  "absurd": (built({"x": entry(shape=[1 << 62, 1 << 62])}), "takes far too many bytes"),
  "absurdly many": (
    built({"x": entry(shape=[1 << 40] * 5000)}),
    "takes far too many bytes",
  ),
  "negative": (built({"x": entry(shape=[-2])}), "wanted whole numbers"),
  "a fraction": (built({"x": entry(shape=[2.0])}), "wanted whole numbers"),
  "a truth": (built({"x": entry(shape=[True])}), "wanted whole numbers"),
  "three ends": (built({"x": entry(offsets=[0, 4, 8])}), "wanted whole numbers"),
  "a dtype": (built({"x": entry(dtype="F31")}), "has dtype 'F31'; known: BOOL"),
  "a dtype of lists": (built({"x": entry(dtype=["F32"])}), "has dtype ['F32']; known"),
  "a key more": (built({"x": entry() | {"code": 1}}), "should have data_offsets"),
  "metadata": (built({"__metadata__": {"a": 1}}, b""), "other than strings"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile(name, path):
  data, reason = HOSTILE[name]
  path.write_bytes(data)
  with pytest.raises(ValueError) as refusal:
    File(path)
  line = str(refusal.value)
  assert reason in line and str(path) in line
  assert "\n" not in line and len(line) < len(str(path)) + 300
  with pytest.raises(safetensors.SafetensorError):  # the library refuses it, too
    if name not in ("duplicate", "twice within", "a key more"):
      safetensors.numpy.load(data)
    raise safetensors.SafetensorError


def good() -> bytes:
  values = {"b": np.arange(6, dtype=np.float32), "a": np.ones((2, 3), np.int8)}
  return safetensors.numpy.save(values, metadata={"k": "v"})


EDIT = st.tuples(st.integers(0, len(good())), st.integers(0, 255))


@given(
  edits=st.lists(EDIT, max_size=3), cut=st.integers(0, 9), suffix=st.binary(max_size=9)
)
@example(edits=[], cut=0, suffix=b"")
def test_whatever_is_changed_is_refused_or_read_as_the_library_does(
  edits, cut, suffix, tmp_path_factory
):
  data = bytearray(good())
  for offset, value in edits:
    data[offset : offset + 1] = bytes([value])
  data = bytes(data[: len(data) - cut]) + suffix
  path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
  path.write_bytes(data)
  try:
    file = File(path)
  except ValueError:
    assert data != good()
    return
  expected = {k: raw_bytes(v) for k, v in safetensors.numpy.load(data).items()}
  assert {name: raw_bytes(file.read(name)) for name in file.tensors} == expected
