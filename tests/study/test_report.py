"""Reports: results of several runs, with any metrics, side by side."""

import json

import pytest

from lm.study import report, runs


def run(folder, scores, *, objective="next_token", config=None, **evaluation):
  """Makes a run's folder with one evaluation for each dict of `scores`."""
  folder.mkdir()
  base = {"model": {"family": "rnn"}, "objective": objective, "eval": evaluation}
  config = base | (config or {})
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "manifest.txt").write_text(
    "step          -   ()       int32\n"
    "params/a/b    VD  10x3     float32\n"
    "params/scale  D   3        float32\n"
    "ema/a/b       VD  10x3     float32\n"
  )
  rows = []
  for n, metrics in enumerate(scores, start=1):
    spent = {"train/flops": n * 1e9, "train/seen_tokens": n * 1000}
    rows.append({"step": n, "time_s": n / 2} | spent)
    rows.append({"step": n, "time_s": n / 2 + 0.1} | metrics)
  (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
  return folder


def test_a_result_is_what_the_folder_holds(tmp_path):
  scores = [{"eval/loss": 3.0, "eval/bits_per_byte": b} for b in (4.0, 2.5)]
  result = runs.read(run(tmp_path / "a", scores, score="-accuracy"))
  assert (result.name, result.family, result.objective) == ("a", "rnn", "next_token")
  assert (result.parameters, result.tokens, result.flops) == (33, 2000, 2e9)
  assert (result.unit, result.score, result.seconds) == ("bits per byte", 2.5, 1.0)
  assert result.points == ((1e9, 0.6, 4.0), (2e9, 1.1, 2.5))


@pytest.mark.parametrize(
  "evaluation, metric, larger_is_better",
  [
    ({}, "loss", False),
    ({"score": "loss"}, "loss", False),
    ({"score": "-top_5"}, "top_5", True),
  ],
)
def test_without_bits_per_byte_the_score_is_the_runs_own(
  tmp_path, evaluation, metric, larger_is_better
):
  scores = [{"eval/loss": 3.0, "eval/top_5": 0.5}]
  result = runs.read(run(tmp_path / "a", scores, **evaluation))
  assert (result.metric, result.larger_is_better) == (metric, larger_is_better)
  assert result.score == scores[0][f"eval/{metric}"]


def test_mistakes_are_one_line(tmp_path):
  with pytest.raises(ValueError, match="a has no evaluation yet; train it to its end"):
    runs.read(run(tmp_path / "a", [{}]))
  with pytest.raises(ValueError, match=r"by its score 'f1'; .* has accuracy, loss$"):
    metrics = {"eval/loss": 1.0, "eval/accuracy": 1.0}
    runs.read(run(tmp_path / "b", [metrics], score="-f1"))
  with pytest.raises(ValueError, match="no runs to compare"):
    report.draw([], tmp_path / "c.png")


def test_the_best_come_first_among_those_that_can_be_compared(tmp_path):
  bytes_ = [{"eval/bits_per_byte": 2.5}], [{"eval/bits_per_byte": 2.0}]
  hits = [{"eval/accuracy": 0.5}], [{"eval/accuracy": 0.9}]
  options = dict(objective="classify", score="-accuracy")
  results = [
    runs.read(run(tmp_path / "hits-b", hits[0], **options)),
    runs.read(run(tmp_path / "bytes-b", bytes_[0])),
    runs.read(run(tmp_path / "hits-a", hits[1], **options)),
    runs.read(run(tmp_path / "bytes-a", bytes_[1], objective="masked_lm")),
  ]
  names = [r.name for r in report.ordered(results)]
  assert names == ["bytes-a", "bytes-b", "hits-a", "hits-b"]
  lines = report.table(results).splitlines()
  assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in names]
  assert lines[2].endswith("| 1e+09 | 0 | 2.000 bits per byte |  |")
  assert lines[4].endswith("| 0.900 accuracy |  |")


def test_the_picture_holds_what_can_be_compared(tmp_path, monkeypatch):
  draw_run, shown = report._draw_run, []

  def noted(axis, result, *rest):
    shown.append(result.name)
    draw_run(axis, result, *rest)

  monkeypatch.setattr(report, "_draw_run", noted)
  paths = [
    run(tmp_path / "a", [{"eval/loss": 2.0}], objective="glove"),
    run(tmp_path / "b", [{"eval/loss": 1.0}], objective="glove"),
    run(tmp_path / "c", [{"eval/loss": 0.5}], objective="skip_gram"),
  ]
  report.draw([runs.read(path) for path in paths], tmp_path / "r.png")
  assert shown == ["b", "a"] * 3


def of_optim(folder, score, **optim):
  """Returns the result of a run with these values of `optim`."""
  config = dict(optim=optim, checkpoint=dict(every=int(9 * score)))
  return runs.read(run(folder, [{"eval/bits_per_byte": score}], config=config))


def test_a_column_holds_what_differs_between_the_configs(tmp_path):
  results = [
    of_optim(tmp_path / "a", 3.0, lr=0.1, name="muon", betas=[0.9, 0.99]),
    of_optim(tmp_path / "b", 2.0, lr=0.2, name="muon", betas=[0.9, 0.95]),
    of_optim(tmp_path / "c", 2.5, lr=0.2, name="muon", betas=[0.9, 0.99], clip=1.0),
  ]
  assert [row[-1] for row in report.rows(results)] == [
    "optim.betas=[0.9, 0.95], optim.lr=0.2",
    "optim.betas=[0.9, 0.99], optim.lr=0.2",  # what others have not is no difference
    "optim.betas=[0.9, 0.99], optim.lr=0.1",
  ]
  assert [row[-1] for row in report.rows(results[:1])] == [""]


@pytest.mark.parametrize(
  ("corruption", "unit"),
  [
    ("masked", "pseudo bits per byte"),
    ("spans", "pseudo bits per byte"),
    ("prefix", "bits per byte"),
  ],
)
def test_bits_per_byte_of_text_seen_from_both_sides_are_pseudo(
  corruption, unit, tmp_path
):
  config = {"data": {"corrupt": {"name": corruption}}}
  scores = [{"eval/bits_per_byte": 2.0}]
  result = runs.read(run(tmp_path / "a", scores, config=config))
  assert result.unit == unit and f"2.000 {unit} |" in report.table([result])


def test_the_dots_are_on_their_lines(tmp_path, monkeypatch):
  """Also of a run that went on after its last evaluation."""
  scores = [{"eval/bits_per_byte": 3.0}, {"eval/bits_per_byte": 2.0}, {}]
  result = runs.read(run(tmp_path / "a", scores))
  plotted = []

  class Axis:
    def plot(self, x, y, kind, **options):
      plotted.append((x, y, kind))

  for field, last in (("flops", 2e9), ("seconds", 1.1)):
    report._draw_run(Axis(), result, field, "red")
    (line_x, line_y, _), (x, y, kind) = plotted[-2:]
    assert (line_x[-1], line_y[-1]) == (x, y) == (last, 2.0) and kind == "o"


def test_a_page_needs_no_other_file(tmp_path):
  result = of_optim(tmp_path / "a<b", 3.0, lr=0.1)
  page = report.page([result], b"\x89PNG")
  assert "<td>a&lt;b</td>" in page and "base64,iVBORw==" in page
  assert 'src="data:' in page and "://" not in page
