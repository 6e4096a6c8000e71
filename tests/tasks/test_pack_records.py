"""Records of the pack: each once, right where that can be computed, and small files."""

import string

from lm.tasks import pack
from lm.tasks.pack import generated, task_file

FILES = pack.named("")


def test_the_generated_records_are_those_of_their_seed():
  for name, text in generated.files().items():
    assert (pack.DATA / name).read_text("utf-8") == text, name


def test_records_are_sound():
  sizes = [path.stat().st_size for path in pack.DATA.iterdir()]
  assert sum(sizes) < 400_000
  for file in FILES:
    task = task_file.read(file)
    assert task.name == f"pack_{file.stem}"
    requests = [repr(task.requests(record)) for record in task.records]
    assert len(set(requests)) == len(requests), file
    for record in task.records:
      choices = record.get("choices", "ab")
      assert len(set(choices)) == len(choices)
      for text in [v for v in record.values() if isinstance(v, str)]:
        assert text == text.strip() and text


def test_answers_do_not_stand_in_their_questions():
  """What a model could copy from the prompt would not be measured."""
  for name in ("questions", "science"):
    for record in task_file.read(pack.DATA / f"{name}.yaml").records:
      if name == "questions":
        plain = (
          record["question"]
          .lower()
          .translate(str.maketrans("", "", string.punctuation))
        )
        assert record["answers"][0].lower() not in plain.split()
      else:
        assert record["choices"][record["answer"]] not in record["question"]
  for record in task_file.read(pack.DATA / "arithmetic.yaml").records:
    a, sign, b = record["question"].split()
    result = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
    assert str(result) == record["answer"]
  for record in task_file.read(pack.DATA / "last_word.yaml").records:
    assert record["word"] in record["text"]
