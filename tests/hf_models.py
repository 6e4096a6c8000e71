"""Folders as transformers saves them: tiny random models of every flavour read."""

import functools
import pathlib
import tempfile

import numpy as np
import torch
import transformers
from families import VOCAB

from lm.disk.safetensors import NewFile

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's

GPT2 = dict(n_embd=32, n_layer=2, n_head=4, n_positions=16)
SIZES = dict(
  hidden_size=32,
  intermediate_size=48,
  num_hidden_layers=2,
  num_attention_heads=4,
  max_position_embeddings=16,
)
LLAMA = SIZES | dict(num_key_value_heads=2)
GEMMA = LLAMA | dict(num_hidden_layers=3, head_dim=10)
T5 = dict(d_model=32, d_ff=48, d_kv=6, num_layers=2, num_heads=4)
T5 |= dict(relative_attention_num_buckets=8, relative_attention_max_distance=9)
BART = dict(d_model=32, encoder_layers=1, decoder_layers=2, max_position_embeddings=16)
BART |= dict(encoder_attention_heads=4, decoder_attention_heads=4)
BART |= dict(encoder_ffn_dim=48, decoder_ffn_dim=48)
DISTILBERT = dict(dim=32, hidden_dim=48, n_layers=2, n_heads=4)
DISTILBERT |= dict(max_position_embeddings=16)
# RoBERTa's positions begin at 2, behind that of padding.
ROBERTA = SIZES | dict(max_position_embeddings=18, pad_token_id=1, type_vocab_size=1)
LLAMA_3 = dict(
  rope_type="llama3",
  rope_theta=500.0,
  factor=4.0,
  low_freq_factor=1.0,
  high_freq_factor=2.0,
  original_max_position_embeddings=8,
)
LOCAL = ["sliding_attention", "sliding_attention", "full_attention"]
LINEAR = dict(rope_type="linear", rope_theta=500.0, factor=2.0)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0)
# {flavour: (class, config)}: every variation of a config.json that is read.
FLAVOURS = {
  "gpt2": ("GPT2", GPT2),
  "gpt2, untied, its own ff": (
    "GPT2",
    GPT2 | dict(activation_function="gelu", tie_word_embeddings=False, n_inner=40),
  ),
  "llama, grouped": ("Llama", LLAMA | dict(rope_parameters=LLAMA_3)),
  "llama, tied, biases": (
    "Llama",
    LLAMA | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
  ),
  "llama, attention biases, wide heads": (
    "Llama",
    LLAMA | dict(attention_bias=True, head_dim=16, num_key_value_heads=1),
  ),
  "mistral, window": ("Mistral", LLAMA | dict(sliding_window=5)),
  "qwen2": (
    "Qwen2",
    LLAMA | dict(rope_parameters=YARN | dict(original_max_position_embeddings=8)),
  ),
  "qwen3": ("Qwen3", LLAMA | dict(head_dim=16)),
  "olmo2": ("Olmo2", LLAMA | dict(rope_parameters=LINEAR)),
  "mixtral": ("Mixtral", LLAMA | dict(num_local_experts=3, sliding_window=7)),
  "gemma2": ("Gemma2", GEMMA | dict(query_pre_attn_scalar=11, sliding_window=4)),
  "gemma3": ("Gemma3Text", GEMMA | dict(sliding_window=3, layer_types=LOCAL)),
  "neox": ("GPTNeoX", SIZES | dict(use_parallel_residual=True)),
  "neox, one after the other": (
    "GPTNeoX",
    SIZES | dict(use_parallel_residual=False, hidden_act="gelu_new"),
  ),
  "bert": ("Bert", SIZES | dict(type_vocab_size=3)),
  "bert, as trained": ("Bert", SIZES),
  "bert, bare": ("Bert", SIZES),
  "bert, bare without a pooler": ("Bert", SIZES),
  "bert, next": ("Bert", SIZES),
  "bert, classes": ("Bert", SIZES | dict(num_labels=3)),
  "bert, labels": ("Bert", SIZES | dict(num_labels=5)),
  "bert, span": ("Bert", SIZES),
  "distilbert": ("DistilBert", DISTILBERT),
  "distilbert, bare": ("DistilBert", DISTILBERT),
  "distilbert, classes": ("DistilBert", DISTILBERT | dict(num_labels=3)),
  "roberta": ("Roberta", ROBERTA),
  "roberta, classes": ("Roberta", ROBERTA),
  "xlm-r, bare": ("XLMRoberta", ROBERTA),
  "xlm-r, labels": ("XLMRoberta", ROBERTA | dict(num_labels=3)),
  "t5": ("T5", T5),
  "t5, gated": ("T5", T5 | dict(feed_forward_proj="gated-gelu", num_decoder_layers=1)),
  "t5, tied without scaling": (
    "T5",
    T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
  ),
  "bart": ("Bart", BART),
  "bart, bare": ("Bart", BART | dict(activation_function="relu")),
  "mbart": ("MBart", BART | dict(scale_embedding=True)),
  "marian": (
    "Marian",
    BART | dict(scale_embedding=True, activation_function="swish"),
  ),
  "pegasus": ("Pegasus", BART | dict(activation_function="relu")),
  # Positions count the tokens that are not padding.
  "m2m100": ("M2M100", BART | dict(pad_token_id=1)),
  "mamba2": (
    "Mamba2",
    dict(
      hidden_size=32,
      num_hidden_layers=2,
      num_heads=4,
      head_dim=16,
      n_groups=2,
      state_size=5,
      tie_word_embeddings=False,
    ),
  ),
}
# Classes of the flavours that AutoModelForCausalLM does not load.
HEADS = {
  "bert": "BertForMaskedLM",
  "bert, as trained": "BertForPreTraining",
  "bert, bare": "BertModel",
  "bert, bare without a pooler": "BertModel",
  "bert, next": "BertForNextSentencePrediction",
  "bert, classes": "BertForSequenceClassification",
  "bert, labels": "BertForTokenClassification",
  "bert, span": "BertForQuestionAnswering",
  "distilbert": "DistilBertForMaskedLM",
  "distilbert, bare": "DistilBertModel",
  "distilbert, classes": "DistilBertForSequenceClassification",
  "roberta": "RobertaForMaskedLM",
  "roberta, classes": "RobertaForSequenceClassification",
  "xlm-r, bare": "XLMRobertaModel",
  "xlm-r, labels": "XLMRobertaForTokenClassification",
  "t5": "T5ForConditionalGeneration",
  "t5, gated": "T5ForConditionalGeneration",
  "t5, tied without scaling": "T5ForConditionalGeneration",
  "bart": "BartForConditionalGeneration",
  "bart, bare": "BartModel",
  "mbart": "MBartForConditionalGeneration",
  "marian": "MarianMTModel",
  "pegasus": "PegasusForConditionalGeneration",
  "m2m100": "M2M100ForConditionalGeneration",
}


MORE = {"bert, bare without a pooler": dict(add_pooling_layer=False)}


@functools.cache
def saved(flavour):
  """Returns (random transformers model, folder in which it is saved)."""
  kind, values = FLAVOURS[flavour]
  ids = dict(vocab_size=VOCAB, bos_token_id=0, eos_token_id=0, pad_token_id=0)
  config = getattr(transformers, f"{kind}Config")(**(ids | values))
  torch.manual_seed(0)
  if flavour in HEADS:
    kind = getattr(transformers, HEADS[flavour])
    model = kind(config, **MORE.get(flavour, {})).eval()
  else:
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
  with torch.no_grad():
    for weight in model.parameters():
      if weight.requires_grad:  # sinusoids stay as they are
        weight += 0.2 * torch.randn_like(weight)
    for name, buffer in model.named_buffers():
      if name == "final_logits_bias":
        buffer += torch.randn_like(buffer)
  folder = pathlib.Path(_root().name) / flavour.replace(", ", "-").replace(" ", "-")
  model.save_pretrained(folder)
  return model, folder


@functools.cache
def _root():
  return tempfile.TemporaryDirectory(prefix="lm-hf-")


def logits(model, tokens_BT) -> np.ndarray:
  """Returns the logits of the model's head; a seq2seq source is the tokens reversed."""
  tokens_BT = torch.from_numpy(np.asarray(tokens_BT, np.int64))
  with torch.no_grad():
    if model.config.is_encoder_decoder:
      source_BS = tokens_BT.flip(1)
      outputs = model(input_ids=source_BS, decoder_input_ids=tokens_BT)
      if "logits" in outputs:
        return outputs.logits.numpy()
      # Without a head: as its tied readout would read it.
      table_VD = model.get_input_embeddings().weight
      return (outputs.last_hidden_state @ table_VD.T).numpy()
    outputs = model(tokens_BT)
  if "start_logits" in outputs:
    return np.stack([outputs.start_logits, outputs.end_logits], axis=-1)
  return outputs[0].numpy()


def write(path, tensors, array_of, *, metadata=None):
  """Writes a safetensors file of the arrays that `array_of(name)` gives."""
  with NewFile(path, tensors, metadata=metadata) as file:
    for name in tensors:
      file.put(name, array_of(name))


def bytes_of(folder) -> dict:
  paths = sorted(p for p in folder.rglob("*") if p.is_file())
  return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
