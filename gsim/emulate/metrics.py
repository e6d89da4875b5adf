"""What an emulated server tells a scraper: vLLM's names and meanings (0.32), and how late it is itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from gsim.core import Gauges
from gsim.emulate.answer import Answer
from gsim.engine import EngineLimits

# vLLM's buckets.
_FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_BETWEEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_LATE_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_LABELS = ("model_name", "engine")


def lateness() -> Histogram:
    """How late a process is; one for all servers in it."""
    return Histogram(
        "gsim:lateness_seconds",
        "Real seconds by which this process did later what was due: beyond its capacity times grow.",
        registry=None,
        buckets=_LATE_S,
    )


class Gaps:
    """The histogram of the times between tokens, and the count of tokens: every token counts, so it costs little."""

    def __init__(self, name: str, meaning: str, labels: Mapping[str, str], generated: Counter) -> None:
        self.tokens = 0
        """Generated and not yet in the counter."""
        self._name, self._meaning, self._labels = name, meaning, labels
        self._generated = generated
        self._counts = [0] * (len(_BETWEEN_S) + 1)
        self._sum_s = 0.0

    def add(self, tokens: int, span_s: float) -> None:
        """So many tokens came together, ``span_s`` after the one before them."""
        self.tokens += tokens
        gap_s = span_s / tokens
        self._sum_s += gap_s
        self._counts[bisect_left(_BETWEEN_S, gap_s)] += 1

    def settle(self) -> None:
        """Bring the counter of tokens up to date."""
        self._generated.inc(self.tokens)
        self.tokens = 0

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What a registry asks for."""
        family = HistogramMetricFamily(self._name, self._meaning, labels=list(self._labels))
        bounds = [*map(floatToGoString, _BETWEEN_S), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric(list(self._labels.values()), buckets, self._sum_s)
        yield family


class Metrics:
    """The metrics of one emulated server. Latencies are the engine's own, in its seconds."""

    def __init__(self, model: str, limits: EngineLimits, gauges: Callable[[], Gauges], late: Histogram) -> None:
        self.registry = registry = CollectorRegistry()
        own = {"model_name": model, "engine": "0"}

        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"vllm:{name}", meaning, _LABELS, registry=registry).labels(**own)

        def histogram(name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"vllm:{name}", meaning, _LABELS, registry=registry, buckets=buckets).labels(**own)

        def gauge(name: str, meaning: str, read: Callable[[], float]) -> None:
            Gauge(f"vllm:{name}", meaning, _LABELS, registry=registry).labels(**own).set_function(read)

        gauge("num_requests_running", "Number of requests in model execution batches.", lambda: gauges().running)
        gauge("num_requests_waiting", "Number of requests waiting to be processed.", lambda: gauges().waiting)
        gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", lambda: gauges().kv_usage)
        self.preemptions = counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt = counter("prompt_tokens", "Number of prefill tokens processed.")
        generated = counter("generation_tokens", "Number of generation tokens processed.")
        self._between = Gaps("vllm:inter_token_latency_seconds", "Inter-token latency.", own, generated)
        registry.register(self._between)
        self._queries = counter("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.")
        self._hits = counter("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.")
        self._ended = Counter(
            "vllm:request_success", "Count of ended requests.", (*_LABELS, "finished_reason"), registry=registry
        )
        self._own = own
        self._first = histogram("time_to_first_token_seconds", "Time to first token.", _FIRST_TOKEN_S)
        self._per_token = histogram("request_time_per_output_token_seconds", "Time per output token.", _BETWEEN_S)
        self._whole = histogram("e2e_request_latency_seconds", "End to end request latency.", _REQUEST_S)
        self._prompts = histogram("request_prompt_tokens", "Number of prefill tokens processed.", _TOKENS)
        self._outputs = histogram("request_generation_tokens", "Number of generation tokens processed.", _TOKENS)
        self.disconnected = Counter(
            "http_requests_client_disconnected", "Requests whose client went away.", registry=registry
        )
        registry.register(late)
        cache = {
            "block_size": str(limits.block_size),
            "num_gpu_blocks": str(limits.kv_blocks + 1),  # vLLM counts its null block
            "enable_prefix_caching": str(limits.prefix_caching),
            "cache_dtype": "auto",
            "engine": "0",
        }
        Gauge(
            "vllm:cache_config_info", "Information of the LLMEngine CacheConfig", tuple(cache), registry=registry
        ).labels(**cache).set(1)

    def first_token(self, answer: Answer) -> None:
        """An answer's first token was there."""
        self._first.observe(answer.first_s - answer.submitted_s)
        self._queries.inc(len(answer.prompt_ids))
        self._hits.inc(answer.cached_tokens)
        self._prompt.inc(len(answer.prompt_ids))
        self._between.tokens += 1

    def more_tokens(self, tokens: int, span_s: float) -> None:
        """So many more tokens of one answer, ``span_s`` after the one before them."""
        self._between.add(tokens, span_s)

    def ended(self, answer: Answer) -> None:
        """An answer is over."""
        self._ended.labels(**self._own, finished_reason=answer.reason).inc()
        self._prompts.observe(len(answer.prompt_ids))
        self._outputs.observe(answer.tokens)
        if answer.tokens:
            self._whole.observe(answer.last_s - answer.submitted_s)
        if answer.tokens > 1:
            self._per_token.observe((answer.last_s - answer.first_s) / (answer.tokens - 1))

    def text(self, names: Sequence[str] = ()) -> bytes:
        """All of them in Prometheus' text format, or those with these names (as vLLM's ``?name[]=``)."""
        self._between.settle()
        if not names:
            return generate_latest(self.registry)
        return generate_latest(self.registry.restricted_registry(names))
