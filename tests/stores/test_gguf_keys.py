"""Keys of GGUF files: applied, without effect, or refused by name.

What llama.cpp does with a key is read in src/llama-model.cpp, llama_model::load_hparams
(with the cases of each architecture in it), and src/llama-context.cpp, llama_context.
"""

import math

import ggufs
import jax
import numpy as np
import pytest

import lm
from lm import stores
from lm.nn.positions.rotary import Rope
from lm.stores.gguf import ARCHITECTURES

TOKENS = np.arange(24)[None] * 7 % 258
PLAIN = Rope(theta=500.0)


def opened(tmp_path, arch="llama", **keys):
  """Returns the model of a file with these keys of its architecture, no weights."""
  return stores.open(ggufs.tiny(tmp_path / "a.gguf", arch, keys=keys)).model


def logits(tmp_path, arch, keys, **fields):
  model, params, _ = lm.load(ggufs.tiny(tmp_path / "a.gguf", arch, keys=keys), **fields)
  return np.asarray(model.apply({"params": params}, TOKENS)[0])


# Keys -> what load_hparams and llama_context make of them, as our fields.
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}
ROPES = [
  ({}, PLAIN),
  ({"rope.freq_base": None}, Rope()),
  # rope_scaling_type_train begins as "linear": a factor alone scales.
  ({"rope.scaling.factor": 4.0}, Rope(theta=500.0, scaling="linear", factor=4.0)),
  ({"rope.scale_linear": 4.0}, Rope(theta=500.0, scaling="linear", factor=4.0)),
  (
    {"rope.scale_linear": 4.0, "rope.scaling.factor": 2.0},
    Rope(theta=500.0, scaling="linear", factor=2.0),
  ),
  (
    {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    Rope(theta=500.0, scaling="linear", factor=8.0),
  ),
  # rope_freq_scale is 1 for "none", whatever the factor, and without one.
  ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, PLAIN),
  ({"rope.scaling.type": "linear"}, PLAIN),
  ({"rope.scaling.factor": 0.0}, PLAIN),
  # n_ctx_orig_yarn begins as n_ctx_train.
  (
    YARN,
    Rope(theta=500.0, scaling="yarn", factor=4.0, original_context=64, high_turns=32.0),
  ),
  (
    YARN
    | {
      "rope.scaling.original_context_length": 16,
      "rope.scaling.yarn_beta_fast": 16.0,
      "rope.scaling.yarn_beta_slow": 2.0,
      "rope.scaling.attn_factor": 0.5,
    },
    Rope(
      theta=500.0,
      scaling="yarn",
      factor=4.0,
      original_context=16,
      low_turns=2.0,
      high_turns=16.0,
      attention_factor=0.5 * (0.1 * math.log(4) + 1),
    ),
  ),
]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_rotary_keys(arch, tmp_path):
  for keys, expected in ROPES:
    assert opened(tmp_path, arch, **keys).config.rope == expected, keys


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_window_is_applied(arch, tmp_path):
  plain = logits(tmp_path, arch, {})
  windowed = logits(tmp_path, arch, {"attention.sliding_window": 4})
  np.testing.assert_array_equal(windowed, logits(tmp_path, arch, {}, window=4))
  np.testing.assert_allclose(plain[:, :4], windowed[:, :4], atol=1e-4)
  assert np.abs(plain - windowed)[:, 4:].max() > 0.01
  wide = opened(tmp_path, arch, **{"attention.sliding_window": ggufs.CONTEXT})
  assert wide.config.attention.window == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sizes_that_may_be_left_out_or_given_for_each_layer(arch, tmp_path):
  """Reads n_head_kv as n_head, head sizes as n_embd / n_head (get_key_or_arr)."""
  expected = opened(tmp_path, arch)
  again = {
    "attention.head_count": [4, 4],
    "attention.head_count_kv": [2, 2],
    "feed_forward_length": [48, 48],
    "attention.key_length": 8,
    "attention.value_length": 8,
    "rope.dimension_count": 8,
    "vocab_size": 258,
    "attention.scale": 8**-0.5,
    "attention.causal": True,
    "logit_scale": 1.0,
    "final_logit_softcapping": 0.0,
    "expert_count": 0,
    "pooling_type": 3,
  }
  assert opened(tmp_path, arch, **again) == expected
  every_head = opened(tmp_path, arch, **{"attention.head_count_kv": None})
  assert every_head.config.attention.kv_heads == 4
  assert opened(
    tmp_path, arch, **{"attention.layer_norm_rms_epsilon": 1e-6}
  ).config != (expected.config)


REFUSED = {
  "attention.scale": 0.5,
  "attention.causal": False,
  "attention.clamp_kqv": 8.0,
  "attention.max_alibi_bias": 8.0,
  "attention.value_length": 16,
  "attention.sliding_window_pattern": 2,
  "attn_logit_softcapping": 50.0,
  "final_logit_softcapping": 30.0,
  "logit_scale": 0.0625,
  "residual_scale": 0.22,
  "embedding_scale": 12.0,
  "expert_count": 8,
  "rope.dimension_count": 4,
  "rope.freq_base_swa": 1e4,
  "rope.scaling.type": "longrope",
  "rope.scaling.attn_factor": 1.19,
  "rope.scaling.yarn_log_multiplier": 0.1,
  "use_parallel_residual": True,
  "vocab_size": 300,
  "a_key_of_tomorrow": 1,
  "words_of_tomorrow": ["one"],
  # Wrong types, and layers that differ.
  "attention.head_count": [4, 8],
  "attention.head_count_kv": [2],
  "feed_forward_length": [48, 64],
  "embedding_length": "32",
  "context_length": 64.0,
  "block_count": True,
  "attention.key_length": 0,
  "attention.layer_norm_rms_epsilon": "tiny",
  "rope.freq_base": math.inf,
  "rope.scaling.factor": -2.0,
  "attention.sliding_window": 2.5,
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_would_change_the_numbers_is_refused_by_name(arch, tmp_path):
  for key, value in REFUSED.items():
    with pytest.raises(ValueError, match=f"has {arch}.{key}=") as error:
      opened(tmp_path, arch, **{key: value})
    assert "\n" not in str(error.value), key
  with pytest.raises(ValueError, match=f"does not say '{arch}.block_count'"):
    opened(tmp_path, arch, block_count=None)


def test_files_that_are_no_whole_model(tmp_path):
  for fields, message in (
    ({"split.count": 2, "split.no": 0}, "one of 2 parts .* llama-gguf-split --merge"),
    ({"general.type": "adapter"}, "holds no model but 'adapter'"),
    ({"general.type": "mmproj"}, "holds no model but 'mmproj'"),
  ):
    with pytest.raises(ValueError, match=message):
      stores.open(ggufs.tiny(tmp_path / "a.gguf", **fields))
  stores.open(ggufs.tiny(tmp_path / "a.gguf", **{"split.count": 1}))
  keys = {"rope.scaling.factor": 2.0}
  path = ggufs.tiny(tmp_path / "b.gguf", keys=keys)
  assert stores.open(path).model.config.rope.scaling == "linear"


def test_factors_beside_a_scaling_are_refused(tmp_path, monkeypatch):
  """Refuses two scalings at once, which llama.cpp would multiply."""
  shapes = ggufs.shapes
  monkeypatch.setattr(
    ggufs, "shapes", lambda *a: shapes(*a) | {"rope_freqs.weight": (4,)}
  )
  path = ggufs.tiny(tmp_path / "a.gguf", keys={"rope.scaling.factor": 2.0})
  with pytest.raises(ValueError, match=r"rope_freqs\.weight and rope\.scaling\.type"):
    stores.open(path)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_converted_file_is_the_same_model(arch, tmp_path):
  """Applies the keys in what is written out for transformers too."""
  keys = {"rope.scaling.factor": 4.0, "attention.sliding_window": 4}
  path = ggufs.tiny(tmp_path / "a.gguf", arch, keys=keys)
  model, params, _ = lm.load(path)
  stores.write(tmp_path / "run", stores.open(path))
  stores.write(tmp_path / "hf", stores.open(tmp_path / "run"))
  for folder in ("run", "hf"):
    again, same, _ = lm.load(tmp_path / folder)
    assert again == model
    jax.tree.map(np.testing.assert_array_equal, same, params)
