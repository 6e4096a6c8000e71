"""Adapters of peft: theirs merged here, ours there, with the same logits."""

import json

import jax
import numpy as np
import peft
import processes
import pytest
import torch
import transformers

import lm
from lm import adapt, trees
from lm.data import tokenizers
from lm.data.tokenizers import vocabulary

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2)
SMALL |= dict(num_attention_heads=4, vocab_size=99, max_position_embeddings=64)
SMALL |= dict(initializer_range=0.2)
GPT2 = dict(n_embd=32, n_layer=2, n_head=4, vocab_size=99, n_positions=64)
GPT2 |= dict(initializer_range=0.2)
# Name -> (config, the class of the whole model, the task of peft, modules with LoRA).
KINDS = {
  "bert": (
    transformers.BertConfig(**SMALL, num_labels=3),
    transformers.BertForSequenceClassification,
    "SEQ_CLS",
    ["query", "value", "intermediate.dense"],
  ),
  "llama": (
    transformers.LlamaConfig(**SMALL, num_key_value_heads=2),
    transformers.LlamaForCausalLM,
    "CAUSAL_LM",
    ["q_proj", "k_proj", "o_proj", "down_proj"],
  ),
  "gpt2": (
    transformers.GPT2Config(**GPT2),
    transformers.GPT2LMHeadModel,
    "CAUSAL_LM",
    ["c_attn", "c_proj"],
  ),
  "neox": (
    transformers.GPTNeoXConfig(**SMALL),
    transformers.GPTNeoXForCausalLM,
    "CAUSAL_LM",
    ["query_key_value", "dense_4h_to_h"],
  ),
}
OPTIONS = {
  "lora": dict(r=3, lora_alpha=6),
  "rslora": dict(r=4, lora_alpha=6, use_rslora=True),
  "dora": dict(r=3, lora_alpha=5, use_dora=True),
  "patterns": dict(
    r=3, lora_alpha=6, rank_pattern={"q_proj": 5}, alpha_pattern={"q_proj": 2}
  ),
  "bias": dict(r=3, lora_alpha=6, bias="all"),
}
IDS = np.arange(21).reshape(3, 7) * 4 + 5


def base_of(kind, folder):
  """Returns the model of a kind, saved in a folder without the task's head."""
  config, cls, *_ = KINDS[kind]
  torch.manual_seed(0)
  model = cls(config).eval()
  body = model.bert if kind == "bert" else model
  body.save_pretrained(folder)
  return model


def logits_there(model, ids=IDS):
  with torch.no_grad():
    return model(torch.tensor(ids)).logits.numpy()


def logits_here(path, prompt=0):
  """Returns logits of IDS, with so many tokens behind the vocabulary before them."""
  model, params, _ = lm.load(path)
  begin = np.tile(model.config.vocab + np.arange(prompt), (len(IDS), 1))
  ids = np.concatenate([begin, IDS], axis=1)
  apply = jax.jit(lambda params: model.apply({"params": params}, ids)[0])
  return np.asarray(apply(params))


@pytest.mark.parametrize(
  "kind, options",
  [
    *((kind, "lora") for kind in KINDS),
    *((kind, "dora") for kind in ("bert", "gpt2")),
    *(("llama", name) for name in ("rslora", "dora", "patterns")),
    ("bert", "bias"),
  ],
)
def test_an_adapter_made_by_peft_gives_the_same_logits(kind, options, tmp_path):
  *_, task, modules = KINDS[kind]
  model = base_of(kind, tmp_path / "base")
  config = peft.LoraConfig(task_type=task, target_modules=modules, **OPTIONS[options])
  adapted = peft.get_peft_model(model, config).eval()
  adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
  draw = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for name, tensor in adapted.named_parameters():
      if "lora_" in name or (options == "bias" and name.endswith(".bias")):
        tensor += 0.2 * torch.randn(tensor.shape, generator=draw)
  adapted.save_pretrained(tmp_path / "adapter")
  expected = logits_there(adapted)
  actual = logits_here(tmp_path / "adapter")
  np.testing.assert_allclose(actual, expected, atol=2e-4, rtol=2e-4)
  assert np.abs(actual - logits_there(base_of(kind, tmp_path / "b"))).max() > 1e-2


RUN = """
from ml_collections import ConfigDict


def get_config():
  return ConfigDict(dict(
    num_steps=2, batch=4, seq=16, init=dict(path={base!r}), model=dict(),
    adapt=dict(name="lora", rank=2, where={where!r}, dora={dora}),
    data=dict(source={source!r}, tokenizer="words-64", cache={cache!r}),
    optim=dict(lr=0.3, clip=0.0, decay=0.0),
  ))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_made_by_peft_gives_the_same_logits(kind, tmp_path):
  task, model = KINDS[kind][2], base_of(kind, tmp_path / "base")
  config = peft.PromptTuningConfig(task_type=task, num_virtual_tokens=5)
  prompted = peft.get_peft_model(model, config).eval()
  prompted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
  prompted.save_pretrained(tmp_path / "prompt")
  expected = logits_there(prompted)
  actual = logits_here(tmp_path / "prompt", prompt=5)
  np.testing.assert_allclose(actual, expected, atol=2e-4, rtol=2e-4)
  without = logits_there(model)
  shown = expected if kind == "bert" else expected[:, 5:]
  assert np.abs(shown - without).max() > 1e-2


@pytest.mark.parametrize(
  "kind, where, dora",
  [
    ("llama", ".*blocks/.*", False),
    ("gpt2", ".*(attention/[qkv]|ff/.*)", True),
    ("neox", ".*(attention/[qv]|down)", False),
  ],
)
def test_peft_reads_an_adapter_trained_here(kind, where, dora, tmp_path):
  base_of(kind, tmp_path / "base")
  values = dict(base=str(tmp_path / "base"), where=where, dora=dora)
  values |= dict(source=f"text:{processes.corpus(tmp_path)}", cache=str(tmp_path / "c"))
  (tmp_path / "config.py").write_text(RUN.format(**values))
  run = tmp_path / "run"
  flags = [f"--config={tmp_path / 'config.py'}", f"--workdir={run}"]
  trained = processes.run("train", *flags)
  assert trained.code == 0, trained.err
  adapter = tmp_path / "adapter"
  written = processes.run(
    "convert", f"--from={run}", f"--to={adapter}", "--family=peft"
  )
  assert written.code == 0, written.err
  base = KINDS[kind][1].from_pretrained(tmp_path / "base").eval()
  there = peft.PeftModel.from_pretrained(base, adapter).eval()
  here = logits_here(run)
  np.testing.assert_allclose(here, logits_there(there), atol=1e-4, rtol=1e-4)
  np.testing.assert_allclose(here, logits_here(adapter), atol=1e-5, rtol=1e-5)
  assert np.abs(here - logits_here(tmp_path / "base")).max() > 1e-2


def labelled(folder, task) -> list[str]:
  """Writes texts with a class or a text to write; returns the flags of their task."""
  names = ("text", "label") if task == "classify" else ("source", "target")
  rows = [
    dict(zip(names, (f"the {word} fox {n}", word), strict=True)) | {"group": n}
    for n, word in enumerate(["lazy", "quick", "brown"] * 20)
  ]
  file = folder / "texts.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  options = (
    ["task.max_tokens=4", "task.prompt={text} then"] if task == "translate" else []
  )
  return [f"task.name={task}", f"task.train=jsonl:{file}", *options]


@pytest.mark.parametrize(
  "kind, task", [("gpt2", "translate"), ("llama", "translate"), ("bert", "classify")]
)
def test_peft_reads_a_prompt_trained_here(kind, task, tmp_path):
  base_of(kind, tmp_path / "base")
  words = processes.corpus(tmp_path).read_text()
  tokenizers.make("words-64", [words]).save(tmp_path / "base")
  run, adapter = tmp_path / "run", tmp_path / "adapter"
  changes = [*labelled(tmp_path, task), "num_steps=3", "seq=32", "optim.lr=0.3"]
  changes += ["adapt.name=prompt", "adapt.length=4", f"init.path={tmp_path / 'base'}"]
  changes += ["optim.warmup=0", f"data.cache={tmp_path / 'c'}", "eval.score=-loss"]
  changes += [f"data.tokenizer={tmp_path / 'base'}", "eval.every=0"]
  flags = [f"--config.{change}" for change in changes]
  config = "--config=configs/tasks/classify.py"
  trained = processes.run("train", config, f"--workdir={run}", *flags)
  assert trained.code == 0, trained.err
  written = processes.run(
    "convert", f"--from={run}", f"--to={adapter}", "--family=peft"
  )
  assert written.code == 0, written.err
  base = KINDS[kind][1].from_pretrained(tmp_path / "base").eval()
  there = peft.PeftModel.from_pretrained(base, adapter).eval()
  started = base.get_input_embeddings().weight.detach().numpy()
  for path in (run, adapter):
    model, params, tokenizer = lm.load(path)
    begin = vocabulary.front(tokenizer)
    assert len(begin) == 4 and tokenizer.prompt("the fox")[:4].tolist() == begin
    texts = IDS % begin[0]
    ids = np.concatenate([np.tile(begin, (3, 1)), texts], axis=1)
    here = model.apply({"params": params}, ids)[0]
    np.testing.assert_allclose(here, logits_there(there, texts), atol=1e-4, rtol=1e-4)
    own = np.asarray(params["embed"]["table"].prompt)
    assert np.abs(own[:, None] - started[None]).max(-1).min() > 1e-2


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(peft_type="IA3"), "has peft_type='IA3'; wanted LORA or PROMPT_TUNING"),
    (dict(num_transformer_submodules=2), "has num_transformer_submodules=2: vectors"),
    (dict(layer_replication=[[0, 2]]), "has layer_replication=[[0, 2]], which is not"),
    (dict(init_lora_weights="pissa"), "has init_lora_weights='pissa', by which"),
    (dict(base_model_name_or_path="gone"), "is an adapter of gone, as its"),
  ],
)
def test_what_is_not_read_is_one_line(changes, message, tmp_path):
  config = dict(peft_type="LORA", base_model_name_or_path="gone") | changes
  (tmp_path / "adapter_config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError) as error:
    lm.load(tmp_path)
  assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_gradients_are_those_of_peft(dora, tmp_path):
  there = base_of("llama", tmp_path / "base")
  config = dict(r=3, lora_alpha=6, target_modules=["q_proj"], use_dora=dora)
  there = peft.get_peft_model(there, peft.LoraConfig(**config)).eval()
  torch.manual_seed(2)
  with torch.no_grad():
    for name, tensor in there.named_parameters():
      if "lora_" in name:
        tensor += 0.2 * torch.randn(tensor.shape)
  (there(torch.tensor(IDS)).logits ** 2).mean().backward()
  arrays = {"a": "lora_A", "b": "lora_B", "length": "lora_magnitude_vector"}
  shapes = {"a": (2, 32, 3), "b": (2, 3, 4, 8), "length": (2, 4, 8)}

  def stacked(kind, what):
    tensors = [
      what(tensor).detach().numpy().T
      for name, tensor in there.named_parameters()
      if arrays[kind] in name
    ]
    return np.stack(tensors).reshape(shapes[kind])

  model, base, _ = lm.load(tmp_path / "base")
  options = dict(name="lora", rank=3, alpha=6.0, where=".*attention/q", dora=dora)
  adapter = adapt.Adapter(adapt.make(options), model)
  kinds = [kind for kind in arrays if dora or kind != "length"]
  params = {f"blocks/layer/attention/q/{k}": stacked(k, lambda x: x) for k in kinds}
  frozen = trees.by_path(base)

  def loss(params):
    joined = adapter.joined(params, {p: frozen[p] for p in adapter.frozen})
    return (model.apply({"params": joined}, IDS)[0] ** 2).mean()

  grads = trees.by_path(jax.grad(loss)(trees.nested(params)))
  for kind in kinds:
    expected = stacked(kind, lambda x: x.grad)
    actual = grads[f"blocks/layer/attention/q/{kind}"]
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=1e-6)
