"""Folders of any name, what else is in them, and readers beside the run that saves."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from checkpoints import ABOUT, abstract_of, assert_same_bits, make_state, saved, words
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm.checkpoint import Checkpoints, arrays
from lm.disk import digest

# What means something to a shell, to glob, to a format, to a URL or to the file system.
PIECES = ["[2]", "[!a]", "*", "**", "?", "{}", "{0}", "%25", "%s", "#", "~", "$HOME"]
PIECES += ["gs:", "file:", "\\", "\n", " ", "'", '"', "-n", "a=b,c:d", "\udcff", "é混"]
NAMES = st.lists(
  st.sampled_from(PIECES) | st.text(st.characters(exclude_characters="/\0")),
  min_size=1,
).map("".join)


def is_possible(name: str) -> bool:
  """Returns True for a name that a file can have here."""
  try:
    return name not in (".", "..") and len(os.fsencode(name)) < 256
  except UnicodeEncodeError:  # half a character that stands for no byte
    return False


def check_steps(folder, steps):
  """Checks that a folder lists these steps, and that the newest has all its bits."""
  reader = Checkpoints(folder, owned=False, say=pytest.fail)
  assert reader.steps() == steps
  newest = make_state(steps[-1])
  state, step, about = reader.restore(abstract_of(newest))
  assert (step, about) == (steps[-1], ABOUT)
  assert_same_bits(state, newest)
  params, _, _ = reader.restore_params(abstract_of(newest.params))
  assert_same_bits(params, newest.params)


@settings(max_examples=6)
@given(names=st.lists(NAMES.filter(is_possible), min_size=1, max_size=3))
@example(names=["runs[2]", "gs:", "**"])
@example(names=["a\nb", "\udcff", "\\", "%25"])
def test_any_path_saves_lists_prunes_restores_and_copies(names):
  with tempfile.TemporaryDirectory() as root:
    folder = Path(root, *names)
    saved(folder, [1, 2], keep=1)
    assert words(folder) == ["2"]
    check_steps(folder, [2])
    saved(folder, [3], keep=2)
    check_steps(folder, [2, 3])
    shutil.copytree(folder, Path(root, "plain"))
    check_steps(Path(root, "plain"), [2, 3])
    shutil.copytree(Path(root, "plain"), Path(root, "back", names[-1]))
    check_steps(Path(root, "back", names[-1]), [2, 3])


@pytest.mark.parametrize("root", ["gs", "s3", "az", "hf"])
def test_no_folder_is_taken_for_a_bucket(root, tmp_path):
  """Libraries take /gs/bucket for gs://bucket."""
  folder = Path("/", root)
  if folder.exists() or not os.access("/", os.W_OK):
    pytest.skip(f"needs to make {folder}")
  folder.symlink_to(tmp_path)
  try:
    saved(folder / "run", [1])
    check_steps(tmp_path / "run", [1])
  finally:
    folder.unlink()


# only what can be read is committed


def test_a_save_that_nobody_could_read_is_no_checkpoint(tmp_path, monkeypatch):
  from orbax.checkpoint._src.serialization import ocdbt_utils

  async def merge(*args, **options):
    """Merges nothing, as the library's does when it finds none of its files."""

  saved(tmp_path, [1])
  monkeypatch.setattr(ocdbt_utils, "merge_ocdbt_per_process_files", merge)
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(2, make_state(2), about=ABOUT)
  with pytest.raises(
    ValueError, match=r"could not save step 2 .*cannot be read: .*mani"
  ):
    checkpoints.wait()
  assert words(tmp_path) == ["1"]
  check_steps(tmp_path, [1])


def test_every_array_is_read_before_the_commit(tmp_path):
  saved(tmp_path, [1])
  state, described = tmp_path / "1" / "state", {"step": "int32[]"}
  described |= {"params/embed": "float32[16,8]", "params/blocks/q": "bfloat16[2,8,8]"}
  arrays.check(state, described)
  for wrong in ("params/bias", "params/embed"):
    with pytest.raises(digest.Damaged, match=rf"{wrong} is not in manifest.ocdbt"):
      arrays.check(state, described | {wrong: "float32[16,9]"})
  with pytest.raises(digest.Damaged, match=r"ema/manifest.ocdbt is missing"):
    arrays.check(state, described | {"ema/w": "float32[1]"})
  for path in (state / "params").rglob("d/*"):  # the files of values
    path.unlink()
  with pytest.raises(digest.Damaged, match=r"params: .*"):
    arrays.check(state, described)


def test_a_step_that_lost_its_arrays_when_it_was_saved_is_damaged(tmp_path):
  saved(tmp_path, [1, 2])
  (tmp_path / "2" / "state" / "params" / arrays.MANIFEST).unlink()
  (tmp_path / "2" / digest.SUMS).unlink()
  digest.write(tmp_path / "2")
  messages = []
  reader = Checkpoints(tmp_path, owned=False, say=messages.append)
  assert reader.restore(abstract_of(make_state()))[1] == 1
  assert "state/params/manifest.ocdbt is missing" in messages[0]


# what is not ours


def tree(folder) -> dict:
  """Returns {path: bytes of a file, target of a link} of all that is in a folder."""
  paths = sorted(Path(folder).rglob("*"))
  return {
    path: os.readlink(path) if path.is_symlink() else path.read_bytes()
    for path in paths
    if path.is_symlink() or path.is_file()
  }


def test_what_the_user_put_among_the_steps_stays(tmp_path):
  mine, folder = tmp_path / "mine", tmp_path / "checkpoints"
  saved(folder, [1, 2])
  for name in ("12_backup", "tmp-mine", "3.old", "07", "2024", "best.saving", "٣"):
    (folder / name).mkdir()
    (folder / name / "notes.txt").write_text(name)
  shutil.copytree(folder / "2", mine / "kept")
  shutil.copytree(folder / "2", folder / "2.saving.mine")
  for name in ("notes.txt", "99", "5.txt"):
    (folder / name).write_text(name)
  for name in ("latest", "98", "data"):
    (folder / name).symlink_to(mine)
  (folder / "97").symlink_to(tmp_path / "nowhere")
  before = {
    path: content
    for path, content in (tree(folder) | tree(mine)).items()
    if path.relative_to(tmp_path).parts[1] not in ("1", "2")
  }
  assert saved(folder, [3, 4, 5], keep=1) == folder
  check_steps(folder, [5])
  with Checkpoints(folder, keep=1) as checkpoints:
    checkpoints.restore(abstract_of(make_state()))
    for step in (97, 98, 99, 2024):
      with pytest.raises(
        ValueError, match=rf"{step} is no checkpoint, and step {step}"
      ):
        checkpoints.save(step, make_state(step), about=ABOUT)
  after = tree(folder) | tree(mine)
  assert {path: after.get(path) for path in before} == before


def test_a_step_that_is_a_link_goes_and_what_it_leads_to_stays(tmp_path):
  scratch, folder = tmp_path / "scratch", tmp_path / "checkpoints"
  saved(folder, [1, 2, 3])
  scratch.mkdir()
  for name in ("1", "2"):
    (folder / name).rename(scratch / name)
    (folder / name).symlink_to(scratch / name)
  for word in ("7.saving", "8.deleting"):
    (folder / word).symlink_to(scratch)
  (scratch / "2" / "checkpoint.json").write_text("{}")
  before = tree(scratch)
  saved(folder, [4], keep=2)  # deletes 1 and 2
  assert words(folder) == ["3", "4"] and tree(scratch) == before
  (folder / "5").symlink_to(scratch / "2")
  messages = []
  checkpoints = Checkpoints(folder, say=messages.append)
  assert checkpoints.restore(abstract_of(make_state()))[1] == 4
  assert words(folder) == ["3", "4", "5.damaged"] and tree(scratch) == before


# readers


def test_a_reader_takes_the_next_step_when_its_own_is_deleted(tmp_path, monkeypatch):
  """Step 1 goes while it is verified, step 2 while its arrays are read."""
  saved(tmp_path, [1])
  reader = Checkpoints(tmp_path, owned=False, say=pytest.fail)

  def meanwhile(function, step):
    def first(*args):
      monkeypatch.undo()
      saved(tmp_path, [step], keep=1)
      if step == 2:
        monkeypatch.setattr(arrays, "read", meanwhile(arrays.read, 3))
      return function(*args)

    return first

  monkeypatch.setattr(reader._steps, "verify", meanwhile(reader._steps.verify, 2))
  params, step, _ = reader.restore_params(abstract_of(make_state().params))
  assert step == 3
  assert_same_bits(params, make_state(3).params)
