"""Mistakes in a config and its flags: a one-line error before data are prepared."""

import processes
import pytest


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  return processes.corpus(tmp_path_factory.mktemp("corpus"))


IN_THE_CONFIG = {
  "optim.lrr=1": "the config has no value 'lrr'; did you mean 'lr'?",
  "modle.width=8": "the config has no value 'modle'; did you mean 'model'?",
  "model.surprise=1": "the config has no value 'surprise'; nothing of",
  "seq=abc": "--config.seq=abc: wanted a whole number",
  "model.width=17": "heads=2 does not divide width=17",
  "model.family=decodr": "in lm/models; did you mean 'decoder'? found: bart, decoder",
  "model.preset=gpt-5": "no preset 'gpt-5' in family 'decoder'; found: gpt2-",
  "model.remat=some": "no remat 'some'; found: none",
  "model.dtype=int8": "no dtype 'int8'; found: float32",
  "model.layers=0": "layers=0; wanted 1 or more",
  "model.dropout=1.5": "dropout=1.5; wanted 0 or more, less than 1",
  "objective=next": "no 'next' in lm/objectives; found: cbow, classify, consistency",
  "optim.name=adam": "no 'adam' in lm/optim; found: adafactor",
  "optim.schedule=cos": "no 'cos' in lm/optim/schedules; found: constant",
  "optim.accumulate=3": "optim.accumulate=3 does not divide batch=8",
  "optim.ema=1.0": "optim.ema=1.0; wanted 0 or more, less than 1",
  "optim.warmup=-1": "warmup=-1; wanted 0 or more",
  "seed=99999999999999999999": "seed=99999999999999999999; wanted less than 4294967296",
  "num_steps=0": "num_steps=0; wanted 1 or more",
  "eval.batches=-1": "eval.batches=-1; wanted 0 or more",
  "seq=65": "seq=65 is longer than the model's context=64; make seq smaller or",
  "batch=6": "batch=6 does not divide over mesh data*fsdp=4; wanted a multiple of 4",
  "mesh.data=3": "mesh data=3, fsdp=1, tensor=1, context=1, expert=1, stage=1 does not "
  "fit 4 devices",
  "mesh.fsdp=0": "does not fit 4 devices",
  "mesh.tensor=4": "which mesh tensor=4 does not divide",
  "init.path=nowhere": "nowhere is not a run's folder",
  "init.embedding=none.bin": "no vectors at none.bin; give a file in word2vec's",
  "data.source=shakspeare": "no data source 'shakspeare'; found: shakespeare",
  "data.source=text:none.txt": "no file or folder none.txt",
  "data.tokenizer=bpee": "no tokenizer 'bpee'; it is bytes, bpe-N",
  "data.rows=tight": "no rows 'tight'; found: concat, cooccurrence, first_fit, stream",
  "data.clean.dedup=some": "cleaning rule dedup='some'; wanted one of",
}


@pytest.mark.parametrize("change", list(IN_THE_CONFIG))
def test_a_mistake_in_the_config(change, text, tmp_path):
  folder = tmp_path / "run"
  flags = [*processes.flags(folder, text), f"--config.{change}"]
  assert IN_THE_CONFIG[change] in processes.refused("train", *flags, devices=4)
  assert not folder.exists()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ("model.layers=0", "layers"),
    ("seq=65", "context"),
    ("optim.name=adam", "lm/optim"),
    ("batch=6", "mesh"),
    ("optim.warmup=-1", "wanted 0"),
    ("mesh.tensor=4", "does not divide"),
    ("mesh.expert=2", "mesh expert=2 splits experts, and the model has none"),
    ("data.tokenizer=bpe-200", "ask for bpe-258 or more"),
    ("data.tokenizer=bpee", "no tokenizer 'bpee'"),
    ("eval.score=-f1", "eval.score='-f1'; this objective has accuracy, bits_"),
  ],
)
def test_a_mistake_is_noticed_before_data_are_prepared(change, message, text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, data__cache=tmp_path / "cache")
  assert message in processes.refused("train", *flags, f"--config.{change}", devices=4)
  assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


def test_a_model_that_sees_the_next_token_is_noticed_before_data(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, data__cache=tmp_path / "cache")
  flags += ["--config.model.family=encoder", "--config.model.preset=bert-tiny"]
  line = processes.refused("train", *flags)
  assert "family 'encoder' sees the tokens that it should predict" in line
  assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


OWN = """
import sys
sys.path.insert(0, {tests!r})
import shrink

def get_config():
  cfg = shrink.get_config()
  with cfg.unlocked():
    {change}
  return cfg
"""
OF_OWN_CONFIG = {
  "del cfg.seq": "the config has no value seq; add it to its file",
  "del cfg.eval; cfg.eval = 3": "eval=3; wanted a group: cfg.eval = dict(...)",
  "cfg.eval.batchez = 3": "nothing reads the config's value eval.batchez; did you mean "
  "'eval.batches'?",
  "cfg.losss = dict(z=1)": "nothing reads the config's value losss; did you mean "
  "'loss'?",
  "cfg.x = 1": "nothing reads the config's value x; take it out",
  "del cfg.model.family": "the config has no value model.family; add it",
  "cfg.optim.momentum = 0.9": "nothing reads the config's value optim.momentum",
  "cfg.optim.freeze = (('x', True),)": "freeze: 'x' matches nothing; the parameters",
  "cfg.seed = '1'": "seed='1'; wanted a whole number",
  "return {}": "returns a dict; wanted a ConfigDict of ml_collections",
  "return (": "line 9: '(' was never closed",
}


def own(folder, change, name="mine.py"):
  path = folder / name
  path.write_text(OWN.format(tests=str(processes.ROOT / "tests"), change=change))
  return path


@pytest.mark.parametrize("change", list(OF_OWN_CONFIG))
def test_a_mistake_in_ones_own_config(change, text, tmp_path):
  flags = processes.flags(tmp_path / "run", text, data__cache=tmp_path / "cache")
  flags[0] = f"--config={own(tmp_path, change)}"
  assert OF_OWN_CONFIG[change] in processes.refused("train", *flags)
  assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()


def test_a_file_without_a_config_and_one_that_fails(tmp_path):
  path = tmp_path / "none.py"
  path.write_text("x = 1")
  error_line = processes.refused("train", f"--config={path}")
  assert error_line.startswith(
    f"{path} has no function get_config(); wanted one as in "
  )
  result = processes.run("train", f"--config={own(tmp_path, 'return {}[chr(97)]')}")
  assert result.code == 1 and result.err.endswith("KeyError: 'a'\n")
  assert "return {}[chr(97)]" in result.err


def test_a_config_may_leave_out_whole_groups(text, tmp_path):
  flags = processes.flags(tmp_path / "run", text)
  flags[0] = f"--config={own(tmp_path, 'del cfg.eval, cfg.checkpoint, cfg.optim')}"
  result = processes.run("train", *flags)
  assert result.code == 0, result.err


ON_THE_LINE = {
  "stray": "unexpected argument 'stray'; flags look like --name=value",
  "--wrokdir=x": "Unknown command line flag 'wrokdir'. Did you mean: workdir",
  "--config=none.py": "no config file none.py; wanted one such as configs/",
  "--config none.py": "no config file none.py; wanted one such as configs/",
  "--config=configs": "no config file configs",
  "--config=pyproject.toml": "pyproject.toml is no config: wanted a .py file",
}


@pytest.mark.parametrize("flag", list(ON_THE_LINE))
def test_a_mistake_on_the_command_line(flag, tmp_path):
  flags = ["--config=configs/shakespeare.py", f"--workdir={tmp_path / 'run'}"]
  flags += flag.split()
  assert ON_THE_LINE[flag] in processes.refused("train", *flags)
  assert not (tmp_path / "run").exists()
