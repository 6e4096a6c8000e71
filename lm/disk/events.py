"""TensorBoard's event files, scalars only.

The format is TFRecord around protocol buffers (tensorflow/core/util/event.proto). It is
written here because the libraries for it import TensorFlow or torch, or write from a
thread that never returns once the disk is full.
"""

import math
import os
import socket
import struct
import time
from pathlib import Path

F32_MAX = (2 - 2**-23) * 2.0**127


class Events:
  """Scalars of one process of a run, appended to a new file of `folder`.

  TensorBoard drops what older files of the folder have from step `purge_step` on.
  Raises OSError when the disk is full.
  """

  def __init__(self, folder, *, purge_step: int):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard reads the files of a folder in the order of their names.
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    self._file = open(folder / name, "xb")  # noqa: SIM115 - closed by close()
    self._event(_bytes(3, b"brain.Event:2"))
    self._event(_varint(2, purge_step) + _bytes(7, _varint(1, 1)))  # SessionLog START
    self._file.flush()

  def write(self, step: int, scalars: dict):
    """Appends the numbers of one step, by name."""
    values = b"".join(
      _bytes(1, _bytes(1, name.encode()) + _key(2, 5) + struct.pack("<f", _f32(value)))
      for name, value in scalars.items()
    )
    self._event(_varint(2, step) + _bytes(5, values))
    self._file.flush()

  def close(self):
    """Closes the file."""
    self._file.close()

  def _event(self, fields: bytes):
    event = _key(1, 1) + struct.pack("<d", time.time()) + fields
    head = struct.pack("<Q", len(event))
    self._file.write(head + _crc(head) + event + _crc(event))


def _f32(value) -> float:
  """Returns `value`, or infinity where float32 overflows, which struct would refuse."""
  if math.isfinite(value) and abs(value) > F32_MAX:
    return math.copysign(math.inf, value)
  return value


def _key(field: int, kind: int) -> bytes:
  return bytes([field << 3 | kind])


def _varint(field: int, value: int) -> bytes:
  return _key(field, 0) + _digits(value)


def _bytes(field: int, value: bytes) -> bytes:
  return _key(field, 2) + _digits(len(value)) + value


def _digits(value: int) -> bytes:
  """Returns a varint of protocol buffers: base 128, lowest digit first."""
  digits = bytearray()
  while value > 127:
    digits.append(value & 127 | 128)
    value >>= 7
  return bytes([*digits, value])


def _table():
  """Yields the CRC-32C of every byte."""
  for byte in range(256):
    for _ in range(8):
      byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial
    yield byte


_TABLE = tuple(_table())


def _crc(data: bytes) -> bytes:
  """Returns the masked CRC-32C of a TFRecord, four bytes."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
  crc ^= 0xFFFFFFFF
  return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
