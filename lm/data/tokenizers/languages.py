"""Languages of a model that translates: special tokens, and how a prompt names them.

"en_XX" of mBART, "eng_Latn" of NLLB and "__en__" of M2M-100 are codes. A prompt begins
with the code of its own language and that of the one to be written, or with the latter
alone; without any, the files of the model decide both:

    eng_Latn fra_Latn Good morning.
    fra_Latn Good morning.

The ids of a prompt have one code, where the tokenizer puts that of the source, and
behind all of them that of the target, if the prompt names it.
"""

from lm.data.tokenizers.tokenizer import CODE
from lm.errors import Mistake

# Of mBART, in the order of their ids; mBART-50 has more behind them.
ENGLISH = "en_XX"
MBART = (
  *("ar_AR", "cs_CZ", "de_DE", ENGLISH, "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN"),
  *("hi_IN", "it_IT", "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP"),
  *("nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN"),
)
MBART_50 = (
  *MBART,
  *("af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH"),
  *("mk_MK", "ml_IN", "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE"),
  *("ta_IN", "te_IN", "th_TH", "tl_XX", "uk_UA", "ur_PK", "xh_ZA", "gl_ES", "sl_SI"),
)
CODES = {"mbart": MBART, "mbart-50": MBART_50}


def of_name(name: str) -> str:
  """Returns the code of M2M-100 for a language's name: "__en__" for "en"."""
  return name if CODE.fullmatch(name) else f"__{name}__"


def listed(tokenizer) -> str:
  """Returns the codes of a tokenizer in a line; of many, the first."""
  names = list(tokenizer.languages)
  rest = f" and {len(names) - 60} more" if len(names) > 60 else ""
  return ", ".join(names[:60]) + rest


def prompt(tokenizer, text: str):
  """Returns the ids of a text that may begin with codes, with special tokens around.

  Raises Mistake for a code that the tokenizer does not have.
  """
  named, rest = [], text
  while len(named) < 2 and CODE.fullmatch(word := rest.split(" ", 1)[0]):
    named.append(word)
    rest = rest[len(word) + 1 :]
  for code in named:
    if code not in tokenizer.languages:
      raise Mistake(
        f"the prompt begins with {code!r}, which is no language of this model; it has "
        f"{listed(tokenizer)}"
      )
  ids = tokenizer.prompt(rest).tolist()
  if len(named) == 2:
    all_ids, source = tokenizer.languages.values(), tokenizer.languages[named[0]]
    ids = [source if id in all_ids else id for id in ids]
  return ids + [tokenizer.languages[code] for code in named[-1:]]


def split(tokenizer, ids) -> tuple[list[int], int | None]:
  """Returns (ids of the source, id of the target's code or None) of a prompt's ids."""
  all_ids = set(tokenizer.languages.values())
  if len(ids) and ids[-1] in all_ids and sum(int(i) in all_ids for i in ids) > 1:
    return ids[:-1], int(ids[-1])
  return ids, None
