"""Layouts of tokenizer folders, by name: read as AutoTokenizer does, or refused."""

import hub
from hub import GPT2, ROBERTA, byte_files, pieces, saved, token, without, words

T5_EXTRA = [f"<extra_id_{i}>" for i in range(100)]
IM = ["<|im_start|>", "<|im_end|>"]
ROBERTA_MAP = {f"{role}_token": text for role, text in (
  ("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"), ("sep", "</s>"), ("pad", "<pad>"),
  ("cls", "<s>"), ("mask", "<mask>"))}  # fmt: skip


def of(model_type: str | None, tokenizer_class: str = "", **fields) -> dict:
  """Returns config.json and tokenizer_config.json."""
  named = {"tokenizer_class": tokenizer_class} if tokenizer_class else {}
  files = {"config.json": {"model_type": model_type}} if model_type else {}
  if named or fields:
    files["tokenizer_config.json"] = named | fields
  return files


def decoder(*texts, start: int, **flags) -> dict:
  """Returns added_tokens_decoder of these texts from an id on."""
  return {str(start + i): token(text, **flags) for i, text in enumerate(texts)}


def spm(kind: str, name="tokenizer.model", **files) -> dict:
  return {name: pieces(kind)} | files


BYTES, WORDS = len(byte_files(**GPT2)["vocab.json"]), len(words().splitlines())
GEMMA = dict(tokenizer_class="GemmaTokenizer", add_bos_token=True)
LLAMA = dict(tokenizer_class="LlamaTokenizer", add_bos_token=True)
CHAT = decoder(END := hub.END, *IM, start=BYTES - 1)
LAYOUTS = {
  # vocab.txt
  "bert": lambda: {"vocab.txt": words()} | of("bert"),
  "bert, cased": lambda: {"vocab.txt": words()} | of("bert", do_lower_case=False),
  "bert, accents": lambda: (
    {"vocab.txt": words()} | of("bert", "BertTokenizer", strip_accents=False)
  ),
  "bert, chinese": lambda: (
    {"vocab.txt": words()}
    | of("bert", "BertTokenizer", tokenize_chinese_chars=False, do_lower_case=False)
  ),
  "bert, added_tokens.json": lambda: (
    {"vocab.txt": words(), "added_tokens.json": {"[E2]": WORDS + 1, "[E1]": WORDS}}
    | of("bert", additional_special_tokens=["[E1]"])
  ),
  "bert, decoder": lambda: (
    {"vocab.txt": words()}
    | of("bert", "BertTokenizer", additional_special_tokens=["[E1]", "[E2]"],
         added_tokens_decoder=decoder("[E1]", "[E2]", start=WORDS))
  ),
  "bert, tidied": lambda: (
    {"vocab.txt": words()} | of("bert", clean_up_tokenization_spaces=True)
  ),
  "distilbert": lambda: {"vocab.txt": words()} | of("distilbert"),
  "electra, special_tokens_map": lambda: (
    {"vocab.txt": words(), "special_tokens_map.json": {"sep_token": "[SEP]",
     "additional_special_tokens": ["[E1]"]}} | of("electra")
  ),
  "mpnet": lambda: (
    {"vocab.txt": words(("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))} | of("mpnet")
  ),
  # vocab.json and merges.txt
  "gpt2": lambda: byte_files(**GPT2) | of("gpt2"),
  "gpt2, prefix space": lambda: byte_files(**GPT2) | of("gpt2", add_prefix_space=True),
  "gpt2, decoder": lambda: (
    byte_files(**GPT2)
    | of("gpt2", "GPT2Tokenizer", added_tokens_decoder=CHAT,
         eos_token="<|im_end|>", chat_template=hub.CHAT)
  ),
  "gpt2, added_tokens.json": lambda: (
    byte_files(**GPT2) | of("gpt2", "GPT2Tokenizer", eos_token="<|im_end|>")
    | {"added_tokens.json": {"<|im_start|>": BYTES, "<|im_end|>": BYTES + 1,
                             "new_word": BYTES + 2}}
  ),
  "gpt2, pad that is new": lambda: byte_files(**GPT2) | of("gpt2", pad_token="<pad>"),
  "opt": lambda: (
    byte_files(**ROBERTA)
    | of("opt", "GPT2Tokenizer", add_bos_token=True, bos_token="</s>", eos_token="</s>",
         unk_token="</s>", pad_token="<pad>")
  ),
  "neox": lambda: byte_files(first=[END, "<|padding|>"]) | of("gpt_neox"),
  "qwen2": lambda: (
    byte_files(**GPT2)
    | of("qwen2", "Qwen2Tokenizer", added_tokens_decoder=CHAT, eos_token="<|im_end|>",
         bos_token=None, pad_token=END, chat_template=hub.CHAT)
  ),
  "roberta of 2019": lambda: (
    byte_files(**ROBERTA) | {"special_tokens_map.json": ROBERTA_MAP}
    | of("roberta", model_max_length=512)
  ),
  "roberta, nothing beside": lambda: byte_files(**ROBERTA) | of("roberta"),
  "roberta, class alone": lambda: byte_files(**ROBERTA) | of(None, "RobertaTokenizer"),
  "roberta, mask with spaces": lambda: (
    byte_files(**ROBERTA)
    | of("roberta", mask_token={"__type": "AddedToken"} | token("<mask>", lstrip=True))
  ),
  "bart": lambda: byte_files(**ROBERTA) | of("bart", "BartTokenizer"),
  "deberta": lambda: (
    byte_files(first=["[PAD]", "[CLS]", "[SEP]", "[UNK]"], last=["[MASK]"])
    | of("deberta")
  ),
  # SentencePiece
  "t5": lambda: spm("t5", "spiece.model") | of("t5"),
  "t5, extra_ids and map": lambda: (
    spm("t5", "spiece.model") | of("t5", "T5Tokenizer", extra_ids=100,
    additional_special_tokens=T5_EXTRA)
    | {"special_tokens_map.json": {"eos_token": "</s>",
                                   "additional_special_tokens": T5_EXTRA}}
  ),
  "t5, 20 extra_ids": lambda: (
    spm("t5", "spiece.model") | of("t5", "T5Tokenizer", extra_ids=20)
  ),
  "t5, tidied decoder": lambda: (
    spm("t5", "spiece.model")
    | of("t5", "T5Tokenizer", extra_ids=100, clean_up_tokenization_spaces=True,
         additional_special_tokens=T5_EXTRA,
         added_tokens_decoder=decoder(*reversed(T5_EXTRA), start=360))
  ),
  "mt5": lambda: spm("t5", "spiece.model") | of("mt5", "T5Tokenizer", extra_ids=0),
  "t5 in tokenizer.model": lambda: spm("t5") | of("t5"),
  "xlm-roberta": lambda: spm("xlm", "sentencepiece.bpe.model") | of("xlm-roberta"),
  "xlm-roberta, map": lambda: (
    spm("xlm", "sentencepiece.bpe.model") | of("xlm-roberta")
    | {"special_tokens_map.json": ROBERTA_MAP
       | {"mask_token": token("<mask>", lstrip=True)}}
  ),
  "camembert": lambda: spm("xlm", "sentencepiece.bpe.model") | of("camembert"),
  "albert": lambda: spm("albert", "spiece.model") | of("albert"),
  "albert, as it is": lambda: (
    spm("albert", "spiece.model") | of("albert", keep_accents=True, do_lower_case=False)
  ),
  "deberta-v2": lambda: (
    spm("deberta", "spm.model") | of("deberta-v2", do_lower_case=False)
  ),
  "llama": lambda: spm("llama") | of("llama", **LLAMA),
  "llama, legacy": lambda: spm("llama") | of("llama", legacy=True, **LLAMA),
  "llama, no space": lambda: (
    spm("llama") | of("llama", add_prefix_space=False, **LLAMA)
  ),
  "llama, eos": lambda: spm("llama") | of("llama", add_eos_token=True, **LLAMA),
  "llama, decoder and pad": lambda: (
    spm("llama")
    | of("llama", pad_token="<pad>", added_tokens_decoder=
         decoder("<unk>", "<s>", "</s>", start=0) | decoder(*IM, start=600), **LLAMA)
  ),
  "llama, added_tokens.json": lambda: (
    spm("llama") | {"added_tokens.json": {"<pad>": 600, "new_word": 601}}
    | of("llama", pad_token="<pad>", **LLAMA)
  ),
  "llama by its file": lambda: spm("llama") | of("llama", add_bos_token=True),
  "mistral": lambda: spm("llama") | of("mistral", **LLAMA),
  "mistral, user's pieces": lambda: spm("user") | of("mistral", **LLAMA),
  "llama, user's pieces": lambda: spm("user") | of("llama", **LLAMA),
  "mistral, added_tokens.json": lambda: (
    spm("llama") | of("mistral", **LLAMA)
    | {"added_tokens.json": {"new_word": 600, "né": 601, "[E1]": 602}}
  ),
  "mistral, not legacy": lambda: spm("llama") | of("mistral", legacy=False, **LLAMA),
  "phi3": lambda: (
    spm("llama") | of("phi3", added_tokens_decoder=
    decoder("<|im_end|>", start=600, rstrip=True), **LLAMA)
  ),
  "gemma": lambda: spm("gemma") | of("gemma2", **GEMMA),
  "gemma, by config.json": lambda: spm("gemma") | of("gemma", add_bos_token=True),
  # tokenizer.json
  "saved bert": lambda: saved(LAYOUTS["bert, cased"](), added=["new_word"]),
  "saved bert, json alone": lambda: without(
    saved(LAYOUTS["bert"]()), "tokenizer_config.json"
  ),
  "saved bert, cased later": lambda: saved(LAYOUTS["bert"](), do_lower_case=False),
  "saved gpt2": lambda: saved(LAYOUTS["gpt2, decoder"](), special=["[E1]"]),
  "saved gpt2, spaced later": lambda: saved(LAYOUTS["gpt2"](), add_prefix_space=True),
  "saved gpt2, stale": lambda: saved(
    LAYOUTS["gpt2"](),
    added_tokens_decoder=CHAT, eos_token="<|im_end|>",
  ),
  "saved gpt2, added_tokens.json": lambda: (
    saved(LAYOUTS["gpt2"]()) | {"added_tokens.json": {"new_word": BYTES}}
  ),
  "saved roberta": lambda: saved(LAYOUTS["roberta of 2019"](), added=["new_word"]),
  "saved t5": lambda: saved(LAYOUTS["t5"](), special=["[E1]"]),
  "saved t5, json alone": lambda: without(
    saved(LAYOUTS["t5"]()), "tokenizer_config.json"
  ),
  "saved xlm-roberta": lambda: saved(LAYOUTS["xlm-roberta, map"]()),
  "saved albert": lambda: saved(LAYOUTS["albert"]()),
  "saved llama": lambda: saved(LAYOUTS["llama, decoder and pad"](), added=["new_word"]),
  "saved mistral": lambda: saved(LAYOUTS["mistral"](), special=IM),
  "saved qwen2": lambda: saved(LAYOUTS["qwen2"](), added=["new_word"]),
  "saved gemma": lambda: saved(LAYOUTS["gemma"]()),
  "saved gemma, a role later": lambda: saved(LAYOUTS["gemma"](), sep_token="<turn>"),
  "json of any class": lambda: (
    {"tokenizer.json": hub.byte_level_json()}
    | of("llama", "PreTrainedTokenizerFast", eos_token="<|im_end|>", bos_token=END,
         added_tokens_decoder=CHAT, chat_template=hub.CHAT)
  ),
  "json and a pad that is new": lambda: (
    {"tokenizer.json": hub.byte_level_json(), "special_tokens_map.json":
     {"pad_token": "<pad>", "additional_special_tokens": IM}}
    | of("llama", "PreTrainedTokenizerFast")
  ),
  "json and added_tokens.json": lambda: (
    {"tokenizer.json": hub.byte_level_json(), "added_tokens.json": {"new_word": BYTES}}
    | of(None, "PreTrainedTokenizerFast")
  ),
  "json of roberta without its ends": lambda: (
    {"tokenizer.json": hub.byte_level_json(special=list(ROBERTA_MAP.values()))}
    | of("roberta")
  ),
}  # fmt: skip

GAP = decoder("<|im_start|>", start=BYTES + 9)
REFUSED = {
  "a class that is not read": (
    spm("xlm", "sentencepiece.bpe.model") | of("xglm", "XGLMTokenizer"),
    "of a tokenizer class, 'XGLMTokenizer', that is not read here",
  ),
  "a model of such a class": (
    spm("xlm", "spiece.model") | of("xlnet"),
    "of a tokenizer class, 'that xlnet has', that is not read here",
  ),
  "a class of other files": (
    spm("llama") | of("gpt2"),
    "of a tokenizer class, 'GPT2Tokenizer', that is not read here",
  ),
  "code": (
    spm("llama") | of("chatglm", "GLMTokenizer", auto_map={"AutoTokenizer": ["a.B"]}),
    "brings its own code for its tokenizer",
  ),
  "code and a json": (
    {"tokenizer.json": hub.byte_level_json()} | of(None, "Mine", auto_map=["a.B"]),
    "brings its own code for its tokenizer",
  ),
  "ids with a gap": (
    byte_files(**GPT2) | of("gpt2", added_tokens_decoder=GAP),
    rf"the id {BYTES + 9}, and it has {BYTES} as the next free one",
  ),
  "ids of others": (
    byte_files(**GPT2) | of("gpt2") | {"added_tokens.json": {END: 3}},
    rf"the id 3, and it has {BYTES - 1} in the vocabulary",
  ),
  "ids that are none": (
    byte_files(**GPT2) | of("gpt2") | {"added_tokens.json": {"<a>": "b"}},
    "added_tokens.json has 'b' for the id of '<a>'",
  ),
  "a decoder that is none": (
    byte_files(**GPT2) | of("gpt2", added_tokens_decoder={"x": token("<a>")}),
    "added_tokens_decoder in tokenizer_config.json is not a token for each id",
  ),
  "merges alone": (
    without(byte_files(**GPT2), "vocab.json"),
    "merges.txt has no vocab.json beside it",
  ),
  "merges of another vocabulary": (
    byte_files(**GPT2) | {"merges.txt": "#version: 0.2\nxq zq\n"},
    "does not fit vocab.json",
  ),
  "tiktoken": ({"tokenizer.model": "IQ== 0\nIg== 1\n"}, "is no SentencePiece model"),
  "none that is known": (
    {"target.spm": pieces("xlm"), "vocab.json": {}, "tekken.json": {}},
    "no tokenizer at",
  ),
}  # fmt: skip
