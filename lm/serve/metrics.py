"""Counters and histograms of a server, in the text format of Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

KIND = "text/plain; version=0.0.4; charset=utf-8"
BETWEEN_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0)
WHOLE_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Fields of the engine's Stats: those that go up and down, and those that only grow.
GAUGES = {
  "running": ("lm_requests_running", "texts being written"),
  "waiting": ("lm_requests_waiting", "texts that wait for a slot"),
  "rows": ("lm_slots", "texts that can be written at a time"),
  "prefix_bytes": ("lm_prefix_cache_bytes", "of prompts that need not be read again"),
}
COUNTERS = {
  "prompt_tokens": ("lm_prompt_tokens", "tokens of prompts"),
  "cached_tokens": ("lm_cached_prompt_tokens", "of them, those read before"),
  "written_tokens": ("lm_generation_tokens", "tokens written"),
  "turns": ("lm_engine_turns", "steps of the engine"),
}


class Meter:
  """The metrics of a server; `engine` may be None."""

  def __init__(self, engine=None):
    self._registry = CollectorRegistry()
    if engine is not None:
      self._registry.register(_EngineStats(engine))
    self.requests = self._counter(
      "lm_http_requests", "replies, by path and status", "path", "status"
    )
    self.finished = self._counter(
      "lm_texts_finished", "texts, by why they ended", "finish_reason"
    )
    self.first_s = self._histogram(
      "lm_time_to_first_token_seconds", "from a request to its first token", WHOLE_S
    )
    self.between_s = self._histogram(
      "lm_inter_token_latency_seconds", "between two tokens of a text", BETWEEN_S
    )
    self.whole_s = self._histogram(
      "lm_e2e_request_latency_seconds", "from a request to the end of its text", WHOLE_S
    )

  def _counter(self, name: str, help: str, *labels):
    return Counter(name, help, labels, registry=self._registry)

  def _histogram(self, name: str, help: str, buckets):
    return Histogram(name, help, buckets=buckets, registry=self._registry)

  def begin(self) -> "Clock":
    """Returns the clock of a text that is wanted from now on."""
    return Clock(self)

  def text(self) -> bytes:
    """Returns all metrics, as Prometheus reads them."""
    return generate_latest(self._registry)


class Clock:
  """The times of one text: of its first token, between tokens, of its end."""

  def __init__(self, meter: Meter):
    self._meter, self._start_s = meter, time.perf_counter()
    self._last_s, self._ended = None, False

  def write(self, count: int) -> None:
    """Notes that so many tokens have come; several at once share the time of each."""
    now_s, meter = time.perf_counter(), self._meter
    if self._last_s is None and count:
      meter.first_s.observe(now_s - self._start_s)
      self._last_s, count = now_s, count - 1
    for _ in range(count):
      meter.between_s.observe((now_s - self._last_s) / count)
    self._last_s = now_s

  def end(self, reason: str) -> None:
    """Notes the end of the text, the first time."""
    if not self._ended:
      self._ended = True
      self._meter.finished.labels(reason).inc()
      self._meter.whole_s.observe(time.perf_counter() - self._start_s)


class _EngineStats:
  """A collector of Prometheus that reads the engine's Stats anew each time."""

  def __init__(self, engine):
    self._engine = engine

  def collect(self):
    """Yields the metrics of the engine as it is now."""
    stats = self._engine.stats()
    for field, (name, help) in GAUGES.items():
      yield GaugeMetricFamily(name, help, getattr(stats, field))
    for field, (name, help) in COUNTERS.items():
      yield CounterMetricFamily(name, help, getattr(stats, field))
