"""A picture comes out of whatever metrics.jsonl holds."""

import json

import numpy as np
import pytest

from lm.study import curves


def write(path, rows):
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  return path


def run(num_steps):
  """The rows of a run as the trainer writes them."""
  noise = np.random.default_rng(0).normal(size=num_steps + 1)
  for n in range(1, num_steps + 1):
    loss = 1.4 + 6 * n**-0.4
    yield {
      "step": n,
      "time_s": n / 8,
      "train/nats_per_token": loss + 0.05 * noise[n],
      "train/lr": 3e-3 * min(n / 100, 0.5 + 0.5 * np.cos(np.pi * n / num_steps)),
      "train/tokens_per_s": 62_000 + 900 * noise[n],
    }
    if n % 250 == 0:
      nats = loss + 0.1
      yield {"step": n, "time_s": n / 8, "eval/nats_per_token": nats} | {
        "eval/bits_per_byte": nats / 1.1
      }


def size(png):
  data = png.read_bytes()
  assert data[:8] == b"\x89PNG\r\n\x1a\n"
  return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_run_has_four_panels(tmp_path):
  curves.draw(write(tmp_path / "m.jsonl", run(2000)), tmp_path / "c.png")
  width, height = size(tmp_path / "c.png")
  assert (width, height) == (1430, 884)


@pytest.mark.parametrize(
  "metrics, panels",
  [
    ({"train/nats_per_token": 2.5}, 1),
    ({"eval/bits_per_byte": 2.5, "train/lr": 0.0, "train/other": 1.0}, 2),
    ({"train/nats_per_token": "NaN", "train/tokens_per_s": 10}, 1),
  ],
)
def test_one_row_is_enough(tmp_path, metrics, panels):
  path = write(tmp_path / "m.jsonl", [{"step": 1, "time_s": 0.5} | metrics])
  curves.draw(path, tmp_path / "c.png")
  assert size(tmp_path / "c.png")[0] == 715 * panels


@pytest.mark.parametrize("rows", [[], [{"step": 1, "time_s": 0, "train/lr": "NaN"}]])
def test_without_numbers_it_says_so(tmp_path, rows):
  path = write(tmp_path / "m.jsonl", rows)
  with pytest.raises(ValueError, match="holds no numbers to draw"):
    curves.draw(path, tmp_path / "c.png")


def test_smoothing_keeps_a_straight_line():
  line = np.arange(1000.0)
  np.testing.assert_allclose(curves._smooth(line)[10:-10], line[10:-10])
