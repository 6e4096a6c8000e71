"""Curves: a picture is drawn of any metrics.jsonl."""

import json
import math

import numpy as np
import pytest

from lm.study import curves


def write(path, rows):
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  return path


def run(num_steps):
  """Returns the rows of a run as the trainer writes them."""
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
    ({"train/loss": 2.5, "train/mfu": 0.3}, 1),
    ({"eval/bits_per_byte": 2.5, "train/lr": 0.0, "train/other": 1.0}, 2),
    ({"train/loss": "NaN", "train/tokens_per_s": 10}, 1),
    ({"eval/loss": 2.5, "eval/accuracy": 0.5, "eval/some_new_metric": 1}, 2),
  ],
)
def test_one_row_is_enough(tmp_path, metrics, panels):
  path = write(tmp_path / "m.jsonl", [{"step": 1, "time_s": 0.5} | metrics])
  curves.draw(path, tmp_path / "c.png")
  assert size(tmp_path / "c.png")[0] == 715 * panels


@pytest.mark.parametrize("name", [r"$\foo$", "$", "new\nline", "\udcff", "é混", "{}%s"])
def test_the_name_of_a_run_means_nothing(tmp_path, name):
  folder = tmp_path / name
  folder.mkdir()
  write(folder / "metrics.jsonl", run(3))
  curves.draw(folder / "metrics.jsonl", folder / "curves.png")
  assert size(folder / "curves.png")


def test_a_metric_of_any_name_has_a_panel_with_its_training_curve():
  rows = [
    {"step": 1, "time_s": 1, "train/hits_at_5": 0.25, "train/loss": 4.0},
    {"step": 2, "time_s": 2, "eval/hits_at_5": 0.5, "eval/loss": 3.0, "train/lr": 1},
    {"step": 3, "time_s": 3, "eval/hits_at_5": math.nan, "eval/loss": 2.0},
  ]
  panels = curves.panels(rows)
  assert list(panels) == ["hits at 5", "loss", "learning rate"]
  assert list(panels["hits at 5"]) == ["train/hits_at_5", "eval/hits_at_5"]
  assert panels["hits at 5"]["eval/hits_at_5"].T.tolist() == [[2, 0.5]]
  assert panels["loss"]["eval/loss"].T.tolist() == [[2, 3], [3, 2]]


def test_a_loss_that_is_another_metric_is_drawn_once():
  rows = [{"step": 1, "time_s": 1, "eval/loss": 3.0, "eval/nats_per_token": 3.0}]
  assert list(curves.panels(rows)) == ["nats per token"]
  rows.append({"step": 2, "time_s": 2, "eval/loss": 2.5, "eval/nats_per_token": 2.0})
  assert list(curves.panels(rows)) == ["loss", "nats per token"]


@pytest.mark.parametrize("rows", [[], [{"step": 1, "time_s": 0, "train/lr": "NaN"}]])
def test_without_numbers_it_says_so(tmp_path, rows):
  path = write(tmp_path / "m.jsonl", rows)
  with pytest.raises(ValueError, match="holds no numbers to draw"):
    curves.draw(path, tmp_path / "c.png")


def test_smoothing_keeps_a_straight_line():
  line = np.arange(1000.0)
  np.testing.assert_allclose(curves._smooth(line)[10:-10], line[10:-10])
