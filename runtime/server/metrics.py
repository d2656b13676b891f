"""Turns requests and the engine's counters into Prometheus metrics; docs/serving.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingot.runtime.engine_stats import EngineStats
from ingot.runtime.outputs import RequestStats

FIRST_TOKEN_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
PER_TOKEN_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
TOTAL_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)

# name, help, how it is read from the engine
GAUGES: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
    ("ingot_requests_waiting", "Requests in the queue", lambda s: s.num_waiting),
    ("ingot_requests_running", "Requests in the batch", lambda s: s.num_running),
    ("ingot_kv_pages", "Pages of the KV cache", lambda s: s.num_pages),
    ("ingot_kv_pages_free", "Pages that hold nothing", lambda s: s.num_free_pages),
    ("ingot_kv_pages_used", "Pages of one running request", lambda s: s.num_used_pages),
    ("ingot_kv_pages_shared", "Pages of several running requests", lambda s: s.num_shared_pages),
    ("ingot_kv_pages_cached", "Pages kept for prompts to come", lambda s: s.num_cached_pages),
    (
        "ingot_kv_usage_ratio",
        "Share of the pages that running requests hold",
        lambda s: (s.num_used_pages + s.num_shared_pages) / s.num_pages,
    ),
)
COUNTERS: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
    ("ingot_engine_steps", "Steps of the model", lambda s: s.counters.num_steps),
    ("ingot_prompt_tokens", "Prompt tokens accepted", lambda s: s.counters.num_prompt_tokens),
    ("ingot_output_tokens", "Tokens generated", lambda s: s.counters.num_output_tokens),
    (
        "ingot_preemptions",
        "Requests that gave their pages up and were computed again",
        lambda s: s.counters.num_preemptions,
    ),
    (
        "ingot_prefix_hit_tokens",
        "Prompt tokens that were in the cache",
        lambda s: s.counters.num_prefix_hit_tokens,
    ),
    (
        "ingot_speculation_proposed_tokens",
        "Tokens that speculation proposed",
        lambda s: s.counters.num_proposed_tokens,
    ),
    (
        "ingot_speculation_accepted_tokens",
        "Proposed tokens that were right",
        lambda s: s.counters.num_accepted_tokens,
    ),
    (
        "ingot_cuda_graph_misses",
        "Steps on a GPU whose penalties and biases list too many tokens for its graphs",
        lambda s: s.counters.num_graph_misses,
    ),
)


class EngineCollector(Collector):
    """Reads the engine when it is scraped, and not at every step."""

    def __init__(self, stats: Callable[[], EngineStats], is_healthy: Callable[[], bool]) -> None:
        self._stats = stats
        self._is_healthy = is_healthy

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        for name, text, read in GAUGES:
            yield GaugeMetricFamily(name, text, read(stats))
        for name, text, read in COUNTERS:
            yield CounterMetricFamily(name, text, read(stats))
        healthy = float(self._is_healthy())
        yield GaugeMetricFamily("ingot_engine_healthy", "1 while the engine runs", healthy)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self, stats: Callable[[], EngineStats], is_healthy: Callable[[], bool]) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(EngineCollector(stats, is_healthy))
        self._http = Counter(
            "ingot_http_requests", "Answers by route and status", ["route", "status"],
            registry=registry,
        )  # fmt: skip
        self._finished = Counter(
            "ingot_requests_finished", "Outputs by the reason of their end", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._ttft = self._histogram("ttft", "Arrival to first token", FIRST_TOKEN_S)
        self._tpot = self._histogram("tpot", "Mean time per token after the first", PER_TOKEN_S)
        self._itl = self._histogram("itl", "Time between two pieces of an output", PER_TOKEN_S)
        self._queue = self._histogram("queue", "Arrival to first step", FIRST_TOKEN_S)
        self._prefill = self._histogram("prefill", "First step to first token", FIRST_TOKEN_S)
        self._decode = self._histogram("decode", "First token to last", TOTAL_S)
        self._total = self._histogram("request", "Arrival to end", TOTAL_S)
        self._prompt_length = Histogram(
            "ingot_request_prompt_tokens", "Length of prompts", buckets=TOKENS, registry=registry
        )
        self._output_length = Histogram(
            "ingot_request_output_tokens", "Length of outputs", buckets=TOKENS, registry=registry
        )

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"ingot_{name}_seconds", text, buckets=buckets, registry=self.registry)

    def observe_http(self, route: str, status: int) -> None:
        self._http.labels(route, str(status)).inc()

    def observe_gap(self, seconds: float) -> None:
        self._itl.observe(seconds)

    def observe_output(self, reason: str, stats: RequestStats) -> None:
        self._finished.labels(reason).inc()
        self._prompt_length.observe(stats.num_prompt_tokens)
        self._output_length.observe(stats.num_output_tokens)
        self._queue.observe(stats.queue_s)
        self._total.observe(stats.total_s)
        if stats.num_output_tokens:
            self._ttft.observe(stats.ttft_s)
            self._prefill.observe(stats.prefill_s)
            self._decode.observe(stats.decode_s)
        if stats.num_output_tokens > 1:
            self._tpot.observe(stats.tpot_s)

    def render(self) -> bytes:
        return generate_latest(self.registry)
