"""The records of the pack that are made by rule, each from a fixed seed.

    python -m lm.tasks.pack.generated     # writes them into data/ again

The other records were written by hand, and their files are their source.
"""

import json
import random
from pathlib import Path

SEED = 1
DATA = Path(__file__).with_name("data")

CITIES = (
  "Lisbon",
  "Oslo",
  "Quito",
  "Hanoi",
  "Perth",
  "Dakar",
  "Turin",
  "Leeds",
  "Osaka",
  "Tunis",
  "Lima",
  "Ghent",
)
SENTENCES = (5, 20, 60, 160)  # around the one to be found
EXAMPLES = ("12 + 7", "40 - 15", "6 * 8")  # of the prompt; no record repeats them

# (singular, plural)
SUBJECTS = [
  (n, f"{n}s") for n in ("key", "letter", "picture", "dog", "teacher", "flower")
]
SUBJECTS += [("child", "children"), ("woman", "women")]
PLACES = [(n, f"{n}s") for n in ("window", "tree", "house", "door", "car", "wall")]
ADJECTIVES = ("old", "new", "small", "famous", "dirty", "lost")
THINGS = [
  (n, f"{n}s")
  for n in ("book", "chair", "lamp", "ring", "coat", "ticket", "boat", "plate")
]
PEOPLE = (
  ("The girl", "herself"),
  ("The boy", "himself"),
  ("The girls", "themselves"),
  ("The boys", "themselves"),
  ("My aunt", "herself"),
  ("My uncle", "himself"),
  ("The women", "themselves"),
  ("The men", "themselves"),
)
OTHER = {"herself": "themselves", "himself": "themselves", "themselves": "itself"}
ACTS = ("hurt {} with a knife.", "saw {} in the mirror.", "blamed {} for the mistake.")

# A sentence, and whether its pronoun stands for the first person.
SITUATIONS = (
  ("The {} asked the {} for advice because {} did not know what to do.", True),
  ("The {} thanked the {} because {} had been very helpful.", False),
  ("The {} apologised to the {} because {} had made a mistake.", True),
  ("The {} praised the {} because {} had done excellent work.", False),
  ("The {} phoned the {} because {} wanted to ask a question.", True),
  ("The {} waited for the {} because {} was late.", False),
  ("The {} borrowed money from the {} because {} had no cash left.", True),
  ("The {} visited the {} in hospital because {} was seriously ill.", False),
  ("The {} hid from the {} because {} did not want to be seen.", True),
  ("The {} lent the {} a warm coat because {} was freezing.", False),
)
# Jobs of which most people think of a man, or of a woman.
MEN = ("mechanic", "carpenter", "plumber", "electrician", "pilot")
WOMEN = ("nurse", "receptionist", "librarian", "hairdresser", "nanny")


def arithmetic() -> list[dict]:
  """Returns 90 sums, differences and products with their results."""
  draw, records = random.Random(SEED).randrange, {}
  while len(records) < 90:
    kind = len(records) % 3
    if kind == 0:
      a, b = draw(10, 100), draw(10, 100)
      question, answer = f"{a} + {b}", a + b
    elif kind == 1:
      a, b = sorted((draw(10, 100), draw(10, 100)))
      question, answer = f"{b} - {a}", b - a
    else:
      a, b = draw(2, 13), draw(2, 13)
      question, answer = f"{a} * {b}", a * b
    if question not in EXAMPLES:
      records[question] = {"question": question, "answer": str(answer)}
  return [*records.values()]


def needle() -> list[dict]:
  """Returns 48 places of a sentence with a code among sentences without one.

  Of `before` sentences and `after` the template of needle.yaml makes a text.
  """
  draw, records = random.Random(SEED).randrange, []
  for number in range(48):
    count, place = SENTENCES[number % 4], number // 4 % 3
    before = (0, count // 2, count)[place]
    records.append({
      "city": CITIES[number % len(CITIES)],
      "code": str(draw(1000, 10000)),
      "before": before,
      "after": count - before,
      "step": (1, 3, 5, 7)[draw(4)],
    })  # fmt: skip
  return records


def agreement() -> list[dict]:
  """Returns 72 sentences, each with one that breaks a rule of agreement."""
  draw, records = random.Random(SEED).randrange, []
  for number in range(24):
    plural = (number + number // 8) % 2
    subject, place = SUBJECTS[number % 8][plural], PLACES[number % 6][1 - plural]
    start = f"The {subject} near the {place}"
    verbs, adjective = (("is", "are"), ("are", "is"))[plural], ADJECTIVES[draw(6)]
    records.append(_minimal("verb", f"{start} {{}} {adjective}.", verbs))
    thing, words = THINGS[number % 8][plural], (("this", "these"), ("these", "this"))
    text = f"She sold {{}} {ADJECTIVES[number % 6]} {thing} yesterday."
    records.append(_minimal("determiner", text, words[plural]))
    person, reflexive = PEOPLE[number % 8]
    text = f"{person} {ACTS[number // 8]}"
    records.append(_minimal("reflexive", text, (reflexive, OTHER[reflexive])))
  return records


def _minimal(rule: str, text: str, words) -> dict:
  good, bad = (text.format(word) for word in words)
  return {"rule": rule, "good": good, "bad": bad}


def pronouns(against: bool) -> list[dict]:
  """Returns 40 sentences in which the sense says whom a pronoun stands for.

  It is the pronoun that most people expect of that job; with `against`, the other one.
  """
  records = []
  for number, (text, is_first) in enumerate(SITUATIONS):
    for shift, swapped in ((0, False), (0, True), (2, False), (2, True)):
      pair = (MEN[number % 5], WOMEN[(number + shift) % 5])
      first, second = pair[::-1] if swapped else pair
      expected = "he" if (first if is_first else second) in MEN else "she"
      pronoun = {"he": "she", "she": "he"}[expected] if against else expected
      records.append({
        "text": text.format(first, second, pronoun),
        "pronoun": pronoun,
        "choices": [first, second],
        "answer": int(not is_first),
      })  # fmt: skip
  return records


def files() -> dict[str, str]:
  """Returns the content of each file by its name in data/."""
  records = {
    "arithmetic": arithmetic(),
    "needle": needle(),
    "agreement": agreement(),
    "pronouns_expected": pronouns(against=False),
    "pronouns_other": pronouns(against=True),
  }
  return {
    f"{name}.jsonl": "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    for name, rows in records.items()
  }


def main():
  for name, text in files().items():
    (DATA / name).write_text(text, "utf-8")


if __name__ == "__main__":
  main()
