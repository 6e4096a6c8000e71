"""Models by name: presets, flat fields and defaults, families as files."""

import dataclasses

import pytest

from lm import lookup, models

FAMILIES = ("decoder", "electra", "encdec", "encoder", "gemma", "glove", "mamba2")
FAMILIES += ("rnn", "seq2seq", "word2vec")
PRESETS = [
  (family, preset)
  for family in FAMILIES
  for preset in ("", *lookup.find("lm.models", family).PRESETS)
]


@pytest.mark.parametrize("family, preset", PRESETS)
def test_defaults_are_all_that_a_preset_leaves_open(family, preset):
  defaults = models.defaults(family, preset)
  model = models.build(family, preset=preset, vocab=61)
  assert models.build(family, vocab=61, **defaults) == model
  assert models.fields(model) == {"family": family} | defaults


def test_defaults_of_a_group_are_the_familys_own():
  assert models.defaults("encoder")["positions"] == "learned"
  assert models.defaults("decoder")["positions"] == "rotary"
  assert models.defaults("decoder", "qwen3_8b")["head_size"] == 128


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(family="decodr"), "no .decodr. in lm/models; did you mean .decoder.. found"),
    (dict(preset="gpt-5"), "no preset 'gpt-5' in family 'decoder'; found: gpt2-tiny"),
    (dict(layer=3), "family 'decoder' has no field 'layer'; did you mean 'layers'?"),
    (dict(zzz=3), "family 'decoder' has no field 'zzz'; it has vocab, context"),
  ],
)
def test_what_does_not_exist_is_a_mistake_with_a_suggestion(fields, message):
  with pytest.raises(ValueError, match=message):
    models.build(**dict(family="decoder", vocab=61) | fields)


def test_every_field_of_a_config_is_flat_and_there_once():
  for family in FAMILIES:
    config = lookup.find("lm.models", family).Config
    names = models._names(config)
    assert len(set(names)) == len(names)
    assert dataclasses.fields(config)[0].name == "vocab"
