"""Tokenizer classes of transformers: what each makes of a vocabulary's files.

A folder names its class in tokenizer_config.json or config.json, or implies it by the
type of its model. The class decides what no vocabulary says: normalisation, how words
are split, default special tokens and those around a text.
"""

import dataclasses
import re

from lm.data.tokenizers.bpe import END

NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order of new ids
_BERT = dict(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
_ROBERTA = dict(bos="<s>", eos="</s>", unk="<unk>", sep="</s>", pad="<pad>")
_ROBERTA |= dict(cls="<s>", mask="<mask>")
_ALBERT = _BERT | dict(bos="[CLS]", eos="[SEP]", unk="<unk>", pad="<pad>")
_LLAMA = dict(bos="<s>", eos="</s>", unk="<unk>")


@dataclasses.dataclass(frozen=True)
class Kind:
  """The tokenizer that a class makes of its files.

  `files` are "words" (vocab.txt), "bytes" (vocab.json and merges.txt) or "pieces"
  (SentencePiece); `recipe` is a key of the builders' tables, or "". `tokens` are
  default special tokens by name, and `around` the names of those before and behind a
  text, with a space between several; "source" is the code of its language. `begins`
  says whether bos comes first where add_bos_token does not.
  """

  files: str
  tokens: dict
  around: tuple[str, str] | None = None
  recipe: str = ""
  begins: bool = False
  doubled: bool = False  # two separators between the texts of a pair
  settings: dict = dataclasses.field(default_factory=dict)

  @property
  def defaults(self) -> dict:
    """Fields of a tokenizer_config.json that need not be in it."""
    names = (name for name in NAMES if name in self.tokens)
    return {f"{name}_token": self.tokens[name] for name in names} | self.settings


_BERT_KIND = Kind("words", _BERT, ("cls", "sep"), settings={"do_lower_case": True})
_MPNET = _ROBERTA | {"unk": "[UNK]"}
_ROBERTA_KIND = Kind("bytes", _ROBERTA, ("cls", "sep"), "gpt-2", doubled=True)
_GPT2 = Kind("bytes", dict(bos=END, eos=END, unk=END), recipe="gpt-2")
_NEOX = _GPT2.tokens | {"pad": "<|padding|>"}

KINDS = {
  "AlbertTokenizer": Kind(
    "pieces", _ALBERT, ("cls", "sep"), "albert", settings={"do_lower_case": True}
  ),
  "BartTokenizer": _ROBERTA_KIND,
  "BertTokenizer": _BERT_KIND,
  "CamembertTokenizer": Kind(
    "pieces", _ROBERTA, ("bos", "eos"), "camembert", doubled=True
  ),
  "CodeGenTokenizer": _GPT2,
  "ConvBertTokenizer": _BERT_KIND,
  "DebertaTokenizer": Kind(
    "bytes", _BERT | dict(bos="[CLS]", eos="[SEP]"), ("cls", "sep"), "gpt-2"
  ),
  "DebertaV2Tokenizer": Kind(
    "pieces", _ALBERT | dict(unk="[UNK]", pad="[PAD]"), ("cls", "sep"), "deberta"
  ),
  "DistilBertTokenizer": _BERT_KIND,
  "ElectraTokenizer": _BERT_KIND,
  "GPT2Tokenizer": _GPT2,
  "GPTNeoXTokenizer": Kind("bytes", _NEOX, recipe="gpt-neox"),
  "GemmaTokenizer": Kind(
    "pieces",
    dict(bos="<bos>", eos="<eos>", unk="<unk>", pad="<pad>", mask="<mask>"),
    recipe="gemma",
    begins=True,
  ),
  "LEDTokenizer": _ROBERTA_KIND,
  "LlamaTokenizer": Kind("pieces", _LLAMA, recipe="llama", begins=True),
  "LongformerTokenizer": _ROBERTA_KIND,
  "MBart50Tokenizer": Kind("pieces", _ROBERTA, ("source", "eos"), "mbart-50"),
  "MBartTokenizer": Kind("pieces", _ROBERTA, ("", "eos source"), "mbart"),
  "MPNetTokenizer": Kind(
    "words", _MPNET, ("cls", "sep"), doubled=True, settings={"do_lower_case": True}
  ),
  "MobileBertTokenizer": _BERT_KIND,
  "PegasusTokenizer": Kind(
    "pieces",
    dict(eos="</s>", unk="<unk>", pad="<pad>", mask="<mask_2>"),
    ("", "eos"),
    "pegasus",
    settings={"mask_token_sent": "<mask_1>", "offset": 103},
  ),
  "Qwen2Tokenizer": Kind("bytes", dict(eos=END, unk=END, pad=END), recipe="qwen2"),
  "RobertaTokenizer": _ROBERTA_KIND,
  "SqueezeBertTokenizer": _BERT_KIND,
  "T5Tokenizer": Kind(
    "pieces",
    dict(eos="</s>", unk="<unk>", pad="<pad>"),
    ("", "eos"),
    "t5",
    settings={"extra_ids": 100},
  ),
  "XLMRobertaTokenizer": Kind(
    "pieces", _ROBERTA, ("bos", "eos"), "xlm-roberta", doubled=True
  ),
}
# No class of its own: a file is what it says of itself.
PLAIN = ("", "PreTrainedTokenizer", "TokenizersBackend")
# Types of models with a class of their own, which is not read without tokenizer.json.
OTHERS = (
  *("barthez", "bert-generation", "bert-japanese", "bertweet", "big_bird"),
  *("biogpt", "blenderbot", "blenderbot-small", "clip", "cohere", "cpm", "ctrl"),
  *("esm", "flaubert", "fnet", "fsmt", "funnel", "gpt-sw3", "herbert"),
  *("layoutlmv2", "layoutlmv3", "luke", "mluke"),
  *("mvp", "nllb", "nllb-moe", "openai-gpt", "phobert"),
  *("plbart", "prophetnet", "reformer", "rembert", "roc_bert", "roformer"),
  *("seamless_m4t", "siglip", "speech_to_text", "speecht5", "splinter", "tapas"),
  *("udop", "whisper", "xglm", "xlm", "xlnet", "xmod"),
)
# The class that a type of model implies, where the files name none.
OF_MODEL = {
  **{name: f"that {name} has" for name in OTHERS},
  "albert": "AlbertTokenizer",
  "bart": "RobertaTokenizer",
  "bert": "BertTokenizer",
  "camembert": "CamembertTokenizer",
  "codegen": "GPT2Tokenizer",
  "convbert": "BertTokenizer",
  "deberta": "DebertaTokenizer",
  "deberta-v2": "DebertaV2Tokenizer",
  "distilbert": "BertTokenizer",
  "electra": "BertTokenizer",
  **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text"), "GemmaTokenizer"),
  **dict.fromkeys(("gpt2", "gpt_neo", "gptj", "opt", "phi"), "GPT2Tokenizer"),
  **dict.fromkeys(("gpt_neox", "mamba", "mamba2", "olmo", "olmoe"), "GPTNeoXTokenizer"),
  **dict.fromkeys(("longformer", "led", "roberta"), "RobertaTokenizer"),
  "m2m_100": "M2M100Tokenizer",
  "marian": "MarianTokenizer",
  "mbart": "MBartTokenizer",
  "mobilebert": "MobileBertTokenizer",
  "mpnet": "MPNetTokenizer",
  **dict.fromkeys(("bigbird_pegasus", "pegasus", "pegasus_x"), "PegasusTokenizer"),
  **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), "Qwen2Tokenizer"),
  "squeezebert": "BertTokenizer",
  **dict.fromkeys(("mt5", "switch_transformers", "t5"), "T5Tokenizer"),
  "xlm-roberta": "XLMRobertaTokenizer",
}
# Types whose files often name another class than their own: this one holds.
OVERRULED = {
  "qwen2": "Qwen2Tokenizer",
  **dict.fromkeys(("mistral", "mixtral", "phi3", "umt5"), "TokenizersBackend"),
}


def name_of(config: dict, model_config: dict) -> str:
  """The class of a folder, "" where no file implies one.

  `config` is that of its tokenizer_config.json, `model_config` that of its config.json.
  """
  model_type = model_config.get("model_type")
  name = OVERRULED.get(model_type)
  name = name or config.get("tokenizer_class") or model_config.get("tokenizer_class")
  if not name and not model_type:  # a folder of 2019: "RobertaForMaskedLM"
    architecture = next(iter(model_config.get("architectures") or ()), "")
    name = re.split("For|LMHead|With|Model", architecture)[0] + "Tokenizer"
    name = name if name in KINDS else ""
  return (name or OF_MODEL.get(model_type, "")).removesuffix("Fast")
