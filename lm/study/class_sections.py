"""Sections of a page about a classifier: confusions, confidence, worst answers, why."""

import numpy as np

from lm.study import attribute
from lm.study.checks import calibration
from lm.study.html import coloured, image_of, note, picture, section, table, tag

WORST = 12  # answers
EXAMPLES = 2  # of wrong and of right answers, for attributions
SHOWN = 400  # characters of a text
LONGEST = 48  # tokens of an example
MAPS = 144  # of attention


def sections(subject) -> list:
  """Returns the sections of a classifier, from its answers to held-out records."""
  parts = [
    scores(subject), confusion(subject), reliability(subject), worst(subject),
    attributions(subject), attention(subject),
  ]  # fmt: skip
  return [part for part in parts if part]


def scores(subject):
  """Returns the table of the task's scores with their intervals."""
  values = subject.items.task.score(subject.answers, subject.items.records)
  rows = []
  for name, value in values.items():
    if not isinstance(value, tuple):
      low, high = values.get(f"{name}_95", ("", ""))
      interval = f"{low:.4f} to {high:.4f}" if low != "" else ""
      rows.append((name.replace("_", " "), value, interval))
  about = note(f"On {subject.items.about}.")
  return section("Scores", table(("metric", "value", "95 %"), rows), about)


def confusion(subject):
  """Returns the table of how often each class was answered with each."""
  labels, count = subject.labels, len(subject.labels)
  predicted_R = subject.chance_RC.argmax(1)
  counts_CC = np.bincount(
    subject.actual_R * count + predicted_R, minlength=count**2
  ).reshape(count, count)
  share_CC = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
  rows = []
  for label, own, shares in zip(labels, counts_CC, share_CC, strict=True):
    cells = [
      tag(
        "span",
        f"{number:,}",
        style=f"background: rgba(66, 133, 244, {0.75 * share:.3f}); padding: 0 0.5em",
        title=f"{share:.1%}",
      )
      for number, share in zip(own, shares, strict=True)
    ]
    rows.append([tag("b", label), *cells])
  line = note("A row is the class of the record, a column the answer.")
  return section("Confusion matrix", table(["", *labels], rows), line)


def reliability(subject):
  """Returns the plot of accuracy over confidence, and the calibration error."""
  chance_RC = subject.chance_RC
  right_R = chance_RC.argmax(1) == subject.actual_R
  bins = calibration.reliability(chance_RC.max(1), right_R)
  parts, width = [], 300 / len(bins.count)
  for i, count in enumerate(bins.count):
    if count:
      height = 300 * bins.accuracy[i]
      title = tag("title", f"{count:,} answers, {bins.accuracy[i]:.1%} of them right")
      opacity = 0.25 + 0.75 * count / bins.count.max()
      parts.append(
        tag(
          "g",
          title,
          tag(
            "rect",
            x=round(40 + i * width, 1),
            y=round(310 - height, 1),
            width=round(width - 2, 1),
            height=round(height, 1),
            fill="#4285f4",
            opacity=round(opacity, 3),
          ),
        )
      )
  options = dict(stroke="currentColor", stroke_width=1)
  parts.append(tag("line", x1=40, y1=310, x2=340, y2=10, stroke_dasharray=4, **options))
  parts.append(tag("line", x1=40, y1=310, x2=340, y2=310, **options))
  parts.append(tag("line", x1=40, y1=310, x2=40, y2=10, **options))
  for value in (0, 0.5, 1):
    parts.append(tag("text", value, x=36 + 300 * value, y=326))
    parts.append(tag("text", value, x=14, y=314 - 300 * value))
  parts.append(tag("text", "confidence", x=160, y=342))
  parts.append(tag("text", "share that is right", x=44, y=8))
  svg = tag("svg", *parts, viewBox="0 -6 350 356", width=350, role="img")
  line = note(
    f"Expected calibration error {bins.error:.4f}, of {len(bins.count)} bins; a "
    "calibrated model's bars end at the dashed line. The fuller a bin, the darker."
  )
  return section("Reliability", svg, line)


def worst(subject):
  """Returns the table of the wrong answers that the model is surest of."""
  answers, records = subject.answers, subject.items.records
  order = [i for i in _by_confidence(subject) if not _is_right(subject, i)]
  rows = [
    (
      answers[i]["label"],
      float(answers[i]["probability"]),
      records[i]["label"],
      records[i]["text"][:SHOWN],
    )
    for i in order[:WORST]
  ]
  if not rows:
    return section("Worst answers", note("All answers are right."))
  table_ = table(("answer", "probability", "class of the record", "text"), rows)
  return section(f"Worst of {len(order):,} wrong answers", table_)


def attributions(subject):
  """Returns what each token of some texts adds to the logit of the answer."""
  blocks = []
  for i in examples(subject):
    text, answer = subject.items.records[i]["text"], subject.answers[i]
    ids, number = ids_of(subject, text), subject.labels.index(answer["label"])
    padded = np.append(ids, np.full(LONGEST - len(ids), -1, np.int32))
    arguments = (subject.model, subject.params, padded, number)
    share_T = attribute.gradient_x_input(*arguments)[: len(ids)]
    result = attribute.integrated_gradients(*arguments)
    label = subject.items.records[i]["label"]
    sentence = f" {answer['probability']:.3f}; the record says {label}"
    blocks += [
      tag("p", tag("b", answer["label"]), sentence),
      note("Integrated gradients"),
      _tokens(subject, ids, result.share_T[: len(ids)]),
      note(
        f"The shares add up to {result.share_T.sum():.3f} of a logit that goes from "
        f"{result.baseline:.3f} to {result.output:.3f}: {result.gap:+.3f} is missing, "
        f"with {result.steps} points."
      ),
      note("Gradient x input"),
      _tokens(subject, ids, share_T),
    ]
  line = note(
    "Blue tokens raise the logit of the answer, red ones lower it, compared with the "
    f"mean of all tokens' vectors. Of longer texts the first {LONGEST} tokens count."
  )
  return section("Attributions", line, *blocks)


def attention(subject):
  """Returns where each token of the shortest example looks; None without attention."""
  texts = [subject.items.records[i]["text"] for i in examples(subject)]
  ids = min((ids_of(subject, text) for text in texts), key=len)
  return maps(subject, ids)


def maps(subject, ids):
  """Returns a picture of each head's attention for ids; None without attention."""
  probs_LNTS = attribute.attention(subject.model, subject.params, ids)
  if probs_LNTS is None:
    return None
  figures = []
  for l, probs_NTS in enumerate(probs_LNTS):
    for n, probs_TS in enumerate(probs_NTS):
      name = f"layer {l + 1}, head {n + 1}"
      image = picture(image_of(probs_TS, most=1.0), f"attention of {name}")
      figures.append(tag("figure", image, f"{l + 1}.{n + 1}"))
  words = [f"{place} {piece!s}" for place, piece in enumerate(pieces(subject, ids), 1)]
  line = note(
    "A row looks at the columns: dark nothing, bright all of it. Number: layer.head. "
    f"Tokens: {'  '.join(words)}"
  )
  left_out = len(figures) - MAPS
  more = note(f"{left_out:,} further heads are left out.") if left_out > 0 else ""
  columns = f"grid-template-columns: repeat({probs_LNTS.shape[1]}, minmax(48px, 96px))"
  grid = tag("div", *figures[:MAPS], class_="maps", style=columns)
  return section("Attention", line, tag("div", grid, class_="wide"), more)


def examples(subject) -> list[int]:
  """Returns the numbers of the surest wrong and the surest right answers."""
  order = _by_confidence(subject)
  wrong = [i for i in order if not _is_right(subject, i)]
  right = [i for i in order if _is_right(subject, i)]
  return wrong[:EXAMPLES] + right[:EXAMPLES]


def ids_of(subject, text: str) -> np.ndarray:
  """Returns the ids of a text as the model reads it, LONGEST of them at most."""
  ids = subject.tokenizer.prompt(text)
  limit = min(LONGEST, subject.model.config.context or LONGEST)
  return ids if len(ids) <= limit else np.append(ids[: limit - 1], ids[-1])


def pieces(subject, ids) -> list[str]:
  """Returns the text of each id, as the vocabulary has it where it is no text alone."""
  tokenizer = subject.tokenizer
  if tokenizer.byte_level:
    return [tokenizer.decode([i]) or tokenizer.text_of_id(int(i)) for i in ids]
  return [tokenizer.text_of_id(int(i)) for i in ids]


def _tokens(subject, ids, share_T):
  """Returns ids as text, coloured by their shares."""
  most = float(np.abs(share_T).max()) or 1.0
  texts = pieces(subject, ids)
  spaced = texts if subject.tokenizer.byte_level else [f"{text} " for text in texts]
  return coloured(spaced, share_T / most, [f"{share:+.3f}" for share in share_T])


def _by_confidence(subject) -> list[int]:
  return np.argsort(-subject.chance_RC.max(1), kind="stable").tolist()


def _is_right(subject, number: int) -> bool:
  return bool(subject.chance_RC[number].argmax() == subject.actual_R[number])
