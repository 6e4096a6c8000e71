"""Texts that trip tokenizers: a thousand pieces, in a dozen languages."""

import functools
import random

# Article 1 of the Universal Declaration of Human Rights, and hard characters.
TEXTS = """\
All human beings are born free and equal in dignity and rights. They're endowed with \
reason, don't you think? It's 1948-12-10, 3.14159 or 1,000,000.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, GRÖSSE.
Tous les êtres humains naissent libres et égaux en dignité et en droits, où ça?
Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Señor? ¡Sí!
Все люди рождаются свободными и равными в своем достоинстве и правах.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.
يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ
def f(x):\n\treturn {"a": x**2, 'b': [1, 2, 3]}  # 100%\r\n\n\n    if x != 0x1F:
😀 👩‍👩‍👧 🇯🇵 e\u0301 \ufb01 ½ ① \u00a0 \u200b \u3000 \ufeff ~ x\u0000y \U0001f9ff
   leading, trailing   and    inner   spaces  \x20
"""
PLACES = [
  "",
  " ",
  "\n",
  "a",
  " a",
  "a ",
  "<s>",
  "</s>",
  "[CLS]",
  "<unk>",
  "\u2581",
  "\u2581a",
]


@functools.cache
def cases() -> list[str]:
  """Returns a thousand pieces of the texts."""
  draw, pieces = random.Random(0), list(PLACES)
  while len(pieces) < 1000:
    start = draw.randrange(len(TEXTS))
    pieces.append(TEXTS[start : start + draw.randrange(1, 60)])
  return pieces
