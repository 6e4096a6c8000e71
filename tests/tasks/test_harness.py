"""Our models in stock lm-eval answer as lm-eval's own model of the same weights."""

import json

import jax
import lm_evals
import numpy as np
import pytest
import tokenizers as hf_tokenizers

import lm
from lm.data import tokenizers
from lm.tasks import harness

BYTES, CONTEXT = tokenizers.byte_tokenizer(), 32
TEMPLATE = (
  "{% for m in messages %}<|endoftext|>{{ m['role'] }}: {{ m['content'] }}\n"
  "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
LONG = "the quick brown fox jumps over a lazy dog"  # 41 bytes
PAIRS = [
  ("the quick", " brown"),
  ("", "abc"),  # an empty context
  ("a line\n", "and the next"),  # its white space is the continuation's
  ("two  ", " spaces"),
  ("the answer is", "A"),
  ("the answer is", "B"),  # of one token, as in multiple choice
  (LONG, " then"),  # longer than the window
  ("a", "b" * CONTEXT),  # as long as it may be
  ("naïve 東", "京é😀"),
  ("say <|endoftext|> ", "now"),  # special tokens count as such
  ("<|endoftext|>the", " end"),
  ("", "<|endoftext|>"),
]
TEXTS = ["x", "naïve 東京", LONG[: CONTEXT - 1], LONG[:CONTEXT], LONG[: CONTEXT + 1]]
TEXTS += [(LONG * 2)[: 2 * CONTEXT + 1], LONG * 3]


def model_of(tokenizer, **fields):
  """Returns (model, params): random, and far from uniform."""
  sizes = dict(preset="gpt2-tiny", width=32, layers=2, heads=2, context=CONTEXT)
  model = lm.model("decoder", vocab=tokenizer.size, **(sizes | fields))
  variables = model.init(jax.random.key(1), np.zeros((1, 2), np.int32))
  return model, jax.tree.map(lambda x: x * 2, lm.letters.unbox(variables["params"]))


@pytest.fixture(scope="module", params=[dict(batch_size=1, logits_cache=False), {}])
def pair(request, tmp_path_factory):
  """Returns (our model for lm-eval, lm-eval's own of the same weights)."""
  model, params = model_of(BYTES)
  options = dict(batch_size=4) | request.param
  folder = tmp_path_factory.mktemp("pair")
  peer = lm_evals.exported(folder, model, params, BYTES, **options)
  return harness.adapter(model, params, BYTES), peer


def test_continuations(pair):
  requests = [p for p in PAIRS if p != ("", "<|endoftext|>")]  # which the peer refuses
  ours, expected = (lm_evals.answers(m, "loglikelihood", requests) for m in pair)
  for answer, (logprob, greedy) in zip(ours, expected, strict=True):
    assert answer[0] == pytest.approx(logprob, abs=1e-4)
    assert answer[1] == greedy


def test_tokens_that_lm_eval_has_encoded(pair):
  requests = [(("a", "b"), [1, 2, 3], [4]), (("a", "c"), [5], [6, 7])]
  ours, expected = (m._loglikelihood_tokens(requests) for m in pair)
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_whole_texts(pair):
  requests = [(text,) for text in [*TEXTS, ""]]
  ours, expected = (
    lm_evals.answers(m, "loglikelihood_rolling", requests) for m in pair
  )
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_text_that_begins_with_its_prefix_has_it_once(pair):
  texts = [("abc",), ("<|endoftext|>abc",)]
  once, again = lm_evals.answers(pair[0], "loglikelihood_rolling", texts)
  assert once == again
  once, twice = lm_evals.answers(pair[1], "loglikelihood_rolling", texts)
  assert twice < once - 1  # the peer scores the prefix after another one


def test_written_texts(pair):
  requests = [
    ("the quick", {"until": ["\n"], "max_gen_toks": 12}),
    (LONG, {"until": ["e", "a"], "max_gen_toks": 12}),  # read from its middle
    ("naïve", {"max_new_tokens": 7, "do_sample": False, "temperature": 0.7}),
    ("naïve", {"until": "o", "max_tokens": 9, "temperature": 0.0}),
    ("", {"until": [], "max_gen_toks": 5}),
  ]
  ours, expected = (lm_evals.answers(m, "generate_until", requests[:4]) for m in pair)
  assert ours == expected and any(ours)
  [text] = lm_evals.answers(pair[0], "generate_until", requests[4:])
  assert text == lm_evals.answers(pair[1], "generate_until", [
    ("<|endoftext|>", requests[4][1])])[0]  # fmt: skip


def tasks(folder):
  """Returns the configs of a task of each kind, with their data in a folder."""
  rows = [
    {"text": text, "choices": [text[-4:], "other", "naïve"], "gold": 0, "n": str(i)}
    for i, text in enumerate(["one and two", "東京 is a city", LONG])
  ]
  file = folder / "rows.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  data = dict(dataset_path="json", test_split="test")
  data |= dict(dataset_kwargs={"data_files": {"test": str(file)}}, num_fewshot=0)
  metrics = lambda *names: [{"metric": name} for name in names]
  kinds = {
    "choice": dict(
      output_type="multiple_choice",
      doc_to_text="Which? {{text}}",
      doc_to_choice="choices",
      doc_to_target="gold",
      metric_list=metrics("acc", "acc_norm", "acc_bytes"),
    ),
    "cloze": dict(
      output_type="loglikelihood",
      doc_to_text="{{text}}",
      doc_to_target=" {{choices[0]}}",
      metric_list=metrics("acc", "perplexity"),
    ),
    "rolling": dict(
      output_type="loglikelihood_rolling",
      doc_to_text="",
      doc_to_target="text",
      metric_list=metrics("bits_per_byte", "byte_perplexity", "word_perplexity"),
    ),
    "written": dict(
      output_type="generate_until",
      doc_to_text="{{text}} =",
      doc_to_target="{{n}}",
      generation_kwargs={"until": ["\n"], "max_gen_toks": 6},
      metric_list=metrics("exact_match", "chrf"),
    ),
  }
  return [dict(task=name, **data, **values) for name, values in kinds.items()]


def test_stock_lm_eval_gives_the_same_metrics_and_samples(pair, tmp_path):
  ours, expected = (
    lm_evals.evaluated(model, tasks(tmp_path), tmp_path / "cache") for model in pair
  )
  assert list(ours["results"]) == ["choice", "cloze", "rolling", "written"]
  for name, metrics in expected["results"].items():
    for metric, value in metrics.items():
      if isinstance(value, float):
        assert ours["results"][name][metric] == pytest.approx(value, rel=1e-5), metric
    for sample, peer in zip(
      ours["samples"][name], expected["samples"][name], strict=True
    ):
      assert sample["arguments"] == peer["arguments"]
      assert sample["metrics"] == peer["metrics"]


@pytest.fixture(scope="module")
def bos_pair(tmp_path_factory):
  """Returns (our model, the peer), whose tokenizer puts <s> in front of a text."""
  folder = tmp_path_factory.mktemp("bos")
  inner = hf_tokenizers.Tokenizer.from_str(BYTES._inner.to_str())
  inner.add_special_tokens(["<s>", "</s>"])
  inner.post_processor = hf_tokenizers.processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
  )
  config = {"tokenizer_class": "PreTrainedTokenizerFast"}
  config |= {"bos_token": "<s>", "eos_token": "</s>"}
  tokenizer = tokenizers.Tokenizer(inner, config | {"chat_template": TEMPLATE})
  model, params = model_of(tokenizer)
  options = dict(batch_size=4)
  peer = lm_evals.exported(folder, model, params, tokenizer, **options)
  return harness.adapter(model, params, tokenizer), peer


def test_bos_is_there_once(bos_pair):
  pairs = [*PAIRS[:9], ("<s>the", " quick"), ("", "<s>the"), ("a <s> b", " c")]
  ours, expected = (lm_evals.answers(m, "loglikelihood", pairs) for m in bos_pair)
  np.testing.assert_allclose(ours, expected, atol=1e-4)
  requests = [(text, {"max_gen_toks": 5}) for text in ("the", "<s>the")]
  written = [
    lm_evals.answers(m, "generate_until", [r]) for m in bos_pair for r in requests
  ]
  assert written == [written[0]] * 4
  bos_pair[1].add_bos_token = False  # or the peer's whole texts begin with two
  requests = [(text,) for text in TEXTS]
  ours, expected = (
    lm_evals.answers(m, "loglikelihood_rolling", requests) for m in bos_pair
  )
  bos_pair[1].add_bos_token = None
  np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_chat_template(bos_pair):
  ours, peer = bos_pair
  messages = [
    {"role": "user", "content": "Which? "},
    {"role": "assistant", "content": "It is"},
  ]
  assert ours.apply_chat_template(messages[:1]) == peer.apply_chat_template(
    messages[:1]
  )
  open_end = [m.apply_chat_template(messages, False) for m in bos_pair]
  assert open_end[0] == open_end[1] and open_end[0].endswith("assistant: It is")
  assert ours.chat_template(True) == peer.chat_template(True) == TEMPLATE
  text = ours.apply_chat_template(messages[:1])
  request = [(text, {"max_gen_toks": 4})]
  assert lm_evals.answers(ours, "generate_until", request) == lm_evals.answers(
    peer, "generate_until", request
  )


def test_an_encoder_decoder_reads_the_context(tmp_path):
  inner = hf_tokenizers.Tokenizer.from_str(BYTES._inner.to_str())
  inner.add_special_tokens(["</s>"])
  inner.post_processor = hf_tokenizers.processors.TemplateProcessing(
    single="$A </s>", special_tokens=[("</s>", inner.token_to_id("</s>"))]
  )
  config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|pad|>"}
  tokenizer = tokenizers.Tokenizer(inner, config | {"eos_token": "</s>"})
  fields = dict(preset="t5-tiny", width=32, layers=2, heads=2, vocab=tokenizer.size)
  model, ids_BT = lm.model("encdec", **fields), np.zeros((1, 2), np.int32)
  variables = model.init(jax.random.key(1), ids_BT, source_BS=ids_BT)
  params = lm.letters.unbox(variables["params"])
  options = dict(batch_size=4, backend="seq2seq")
  peer = lm_evals.exported(tmp_path, model, params, tokenizer, **options)
  peer.model.config.decoder_start_token_id = tokenizer.pad
  ours = harness.adapter(model, params, tokenizer)
  pairs = [("the quick", " brown"), ("a b ", "c"), ("naïve 東", "京é😀")]
  answers, expected = (
    lm_evals.answers(m, "loglikelihood", pairs) for m in (ours, peer)
  )
  np.testing.assert_allclose(answers, expected, atol=1e-4)
  with pytest.raises(ValueError, match="an encoder-decoder gives a text alone no prob"):
    lm_evals.answers(ours, "loglikelihood_rolling", [("a",)])
