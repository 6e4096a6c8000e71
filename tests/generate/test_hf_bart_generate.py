"""What models of the BART kind write equals what `transformers` writes.

Greedy and with beams: where a text starts, tokens that it has to begin and end with,
tokens that it never has; all as the folder's files say.
"""

import json

import hf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import lm
from lm import stores
from lm.generate import beam, decode, prompts, stream
from lm.generate.sample import Sampling
from lm.stores.hf import export

VOCAB, LENGTH, PAD, EOS = 29, 8, 1, 2
CODES = {"en_XX": 25, "ro_RO": 26, "fr_XX": 27}
SIZES = dict(
  vocab_size=VOCAB,
  d_model=16,
  encoder_layers=1,
  decoder_layers=1,
  encoder_attention_heads=2,
  decoder_attention_heads=2,
  encoder_ffn_dim=20,
  decoder_ffn_dim=20,
  max_position_embeddings=24,
)
# {name: (class of the config, of the model, values of the config)}
MODELS = {
  "bart": (
    "Bart",
    "BartForConditionalGeneration",
    dict(forced_bos_token_id=0, forced_eos_token_id=EOS),
  ),
  "marian": (
    "Marian",
    "MarianMTModel",
    dict(pad_token_id=VOCAB - 1, decoder_start_token_id=VOCAB - 1, eos_token_id=0)
    | dict(forced_eos_token_id=0, bad_words_ids=[[VOCAB - 1]], scale_embedding=True),
  ),
  "pegasus": (
    "Pegasus",
    "PegasusForConditionalGeneration",
    dict(pad_token_id=0, decoder_start_token_id=0, eos_token_id=1),
  ),
  "mbart": ("MBart", "MBartForConditionalGeneration", {}),
  "mbart50": (
    "MBart",
    "MBartForConditionalGeneration",
    dict(decoder_start_token_id=EOS, scale_embedding=True),
  ),
  "m2m100": ("M2M100", "M2M100ForConditionalGeneration", dict(forced_eos_token_id=EOS)),
}
# {name: (what stands around a source, the language to write, transformers' options)}
TRANSLATED = {
  "mbart": ("$A </s> en_XX", "ro_RO", dict(decoder_start_token_id=26)),
  "mbart50": ("en_XX $A </s>", "fr_XX", dict(forced_bos_token_id=27)),
  "m2m100": ("en_XX $A </s>", "ro_RO", dict(forced_bos_token_id=26)),
}
WORDS = [f"w{i}" for i in range(VOCAB)]
torch.set_num_threads(1)  # torch's threads spin, and compete with XLA's


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """Returns name -> (model of transformers, its folder, with a tokenizer of words)."""
  built = {}

  def build(name):
    if name not in built:
      kind, cls, values = MODELS[name]
      config = getattr(transformers, f"{kind}Config")(**SIZES | values)
      generation = transformers.GenerationConfig.from_model_config(config)
      for key in ("bad_words_ids", "forced_bos_token_id", "forced_eos_token_id"):
        if key in values:
          setattr(generation, key, values[key])
      torch.manual_seed(3)
      hf_model = hf.noisy(hf.noisy(getattr(transformers, cls)(config)), seed=5)
      # So that texts depend on their sources, and do not repeat one token.
      for path, weight in hf_model.named_parameters():
        is_strong = ("encoder_attn" in path and "weight" in path) or "fc" in path
        weight.data *= (8 if is_strong else 1) * (0.3 if "bias" in path else 1)
      if hasattr(hf_model, "final_logits_bias"):
        hf_model.final_logits_bias += 0.1 * torch.randn(VOCAB)
      hf_model.generation_config = generation
      folder = tmp_path_factory.mktemp(name)
      hf_model.save_pretrained(folder)
      _write_tokenizer(folder, name, config)
      built[name] = hf_model, folder
    return built[name]

  return build


def _write_tokenizer(folder, name, config):
  """Writes a tokenizer of one token a word, with the special ones of a model."""
  vocab = {word: i for i, word in enumerate(WORDS)}
  named = {"eos_token": "</s>", "pad_token": "<pad>"}
  ids = {"</s>": config.eos_token_id, "<pad>": config.pad_token_id}
  ids |= CODES if name in TRANSLATED else {}
  vocab = {w: i for w, i in vocab.items() if i not in ids.values()} | ids
  inner = Tokenizer(models.WordLevel(vocab, unk_token=WORDS[5]))
  inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  inner.add_special_tokens(list(ids))
  around = TRANSLATED.get(name, ("$A </s>",))[0]
  special = [(t, ids[t]) for t in around.split() if t in ids]
  inner.post_processor = processors.TemplateProcessing(
    single=around, special_tokens=special
  )
  inner.save(str(folder / "tokenizer.json"))
  config = {"tokenizer_class": "PreTrainedTokenizerFast"} | named
  (folder / "tokenizer_config.json").write_text(json.dumps(config))


def hf_ids(hf_model, source, **options):
  """Returns (ids of each sequence without the start, scores of beams or None)."""
  with torch.no_grad():
    result = hf_model.generate(
      torch.tensor([source]),
      attention_mask=torch.ones(1, len(source), dtype=torch.long),
      max_new_tokens=LENGTH,
      do_sample=False,
      return_dict_in_generate=True,
      output_scores=True,
      **options,
    )
  scores = getattr(result, "sequences_scores", None)
  return result.sequences.numpy()[:, 1:], scores


def draw_texts(count, seed=0):
  """Returns random texts of one to nine words that are no special tokens."""
  draw = np.random.default_rng(seed)
  return [
    " ".join(f"w{i}" for i in draw.integers(5, 25, draw.integers(1, 10)))
    for _ in range(count)
  ]


def cut(ids, stop):
  """The ids up to the first stop, which is kept."""
  ids = [int(i) for i in ids]
  return ids[: ids.index(stop) + 1] if stop in ids else ids


def asked_for(name, text):
  """Returns (a prompt in text, options of transformers for the same)."""
  if name not in TRANSLATED:
    return text, {}
  _, language, options = TRANSLATED[name]
  return f"{language} {text}", options


@pytest.mark.parametrize("name", MODELS)
def test_greedy(name, folders):
  hf_model, folder = folders(name)
  model, params, tokenizer = lm.load(folder)
  texts = [asked_for(name, text)[0] for text in draw_texts(40)]
  options = dict(max_tokens=LENGTH, temperature=0.0)
  pieces = stream.generate(model, params, tokenizer, texts, **options)
  different = set()
  for piece, text in zip(pieces, draw_texts(40), strict=True):
    _, options = asked_for(name, text)
    source = tokenizer.prompt(text).tolist()
    [expected_T], _ = hf_ids(hf_model, source, **options)
    assert piece.ids.tolist() == cut(expected_T, tokenizer.eos)
    different.add(tuple(piece.ids))
  assert len(different) > 3, different


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beams, penalty", [(2, 0.5), (3, 1.0), (4, 0.0), (4, 2.0)])
def test_beams(name, beams, penalty, folders):
  hf_model, folder = folders(name)
  model, params, tokenizer = lm.load(folder)
  texts = draw_texts(6, seed=1)
  search = dict(beams=beams, n=beams, max_tokens=LENGTH, length_penalty=penalty)
  prompted = [asked_for(name, text)[0] for text in texts]
  pieces = stream.search(model, params, tokenizer, prompted, **search)
  for b, text in enumerate(texts):
    options = dict(num_beams=beams, num_return_sequences=beams, length_penalty=penalty)
    options |= dict(early_stopping="never") | asked_for(name, text)[1]
    source = tokenizer.prompt(text).tolist()
    ids_ZT, scores_Z = hf_ids(hf_model, source, **options)
    for z in range(beams):
      piece = pieces[b * beams + z]
      assert piece.ids.tolist() == cut(ids_ZT[z], tokenizer.eos)
      np.testing.assert_allclose(piece.score, scores_Z[z], rtol=1e-4, atol=1e-5)


def test_files_say_where_texts_start_and_end(folders):
  read = {name: lm.load(folders(name)[1])[2].decoding for name in MODELS}
  assert read == {
    "bart": {"start": 2, "first": 0, "last": 2},
    "marian": {"start": 28, "last": 0, "never": [28]},
    "pegasus": {"start": 0, "last": 1},
    "mbart": {"last": 2},
    "mbart50": {"start": 2, "last": 2},
    "m2m100": {"start": 2, "last": 2},
  }


def test_ids_of_languages(folders):
  """Compares sources, starts and first tokens with what the papers' code feeds."""
  for name, expected in {
    "mbart": ([6, 7, EOS, 27], [26], None),
    "mbart50": ([27, 6, 7, EOS], [EOS], 26),
    "m2m100": ([27, 6, 7, EOS], [EOS], 26),
  }.items():
    model, _, tokenizer = lm.load(folders(name)[1])
    ids = prompts.encode(tokenizer, "fr_XX ro_RO w6 w7")
    starts, sources, (firsts, _) = prompts.as_sources(model, tokenizer, ids)
    actual = [int(i) for i in sources[0]], starts[0], firsts[0]
    assert actual == expected
    # Without codes the tokenizer's own source stays, and nothing is forced.
    ids = prompts.encode(tokenizer, "w6 w7")
    if name == "mbart":
      with pytest.raises(ValueError, match="begin the prompt with the code of the one"):
        prompts.as_sources(model, tokenizer, ids)
    else:
      starts, sources, (firsts, _) = prompts.as_sources(model, tokenizer, ids)
      assert (list(sources[0]), firsts) == ([25, 6, 7, EOS], [None])
    with pytest.raises(ValueError, match="'de_DE', which is no language of this model"):
      prompts.encode(tokenizer, "de_DE w6")


def test_rows_have_first_tokens_of_their_own_and_the_last_one_ends_at_the_limit(
  folders,
):
  model, params, tokenizer = lm.load(folders("m2m100")[1])
  texts = [f"{code} w9 w8" for code in CODES]
  pieces = stream.generate(
    model, params, tokenizer, texts, max_tokens=3, temperature=1.5, n=2, seed=4
  )
  assert [int(p.ids[0]) for p in pieces] == [25, 25, 26, 26, 27, 27]
  for piece in pieces:
    assert EOS in piece.ids.tolist()
    assert (piece.finish_reason, len(piece.ids) <= 3) == ("stop", True)


def test_a_folder_of_ours_starts_where_its_model_did(folders, tmp_path):
  """Writes a model without the files that it came with."""
  for name in ("bart", "marian", "mbart50"):
    hf_model, folder = folders(name)
    model, params, tokenizer = lm.load(folder)
    export.write(tmp_path / name, model, params, tokenizer)
    assert stores.open(tmp_path / name).tokenizer().decoding == tokenizer.decoding
    restored = type(hf_model).from_pretrained(tmp_path / name)
    source = tokenizer.prompt("w6 w9 w11").tolist()
    actual, expected = (hf_ids(m, source)[0].tolist() for m in (restored, hf_model))
    assert actual == expected


def test_nothing_is_forced_without_being_asked_for(folders):
  """Compares ids of the compiled loops with and without `forced`."""
  model, params, _ = lm.load(folders("pegasus")[1])
  options = dict(max_tokens=4, sources=[[6, 7, 1]], stops=[1])
  free = decode.generate(model, params, [[0]], **options)
  forced = decode.generate(model, params, [[0]], forced=([11], None), **options)
  assert forced.ids_BT[0, 0] == 11 != free.ids_BT[0, 0]
  greedy = Sampling(temperature=0.0)
  again = decode.generate(model, params, [[0]], sampling=greedy, **options)
  np.testing.assert_array_equal(again.ids_BT, free.ids_BT)
  one = beam.generate(model, params, [[0]], beams=1, **options)
  assert one.ids_BZT[0, 0].tolist() == free.ids_BT[0].tolist()
