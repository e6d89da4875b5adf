"""What a live server says of itself: its model, its limits, its counters."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import httpx

from gsim.calibration.client import Client
from gsim.calibration.options import MeasureOptions
from gsim.calibration.retries import AnswerError, ServerError, may_pass
from gsim.core.errors import ConfigError

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
_COUNT = re.compile(r"[1-9][0-9]{0,17}")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

#: vLLM's defaults on cards under 70 GiB (``get_batch_defaults`` of vLLM 0.32), where nobody says otherwise.
DEFAULT_MAX_NUM_BATCHED_TOKENS = 2048
DEFAULT_MAX_NUM_SEQS = 256


@dataclass(frozen=True)
class Metrics:
    """One scrape of ``/metrics`` (Prometheus text): samples by name."""

    samples: dict[str, list[tuple[dict[str, str], float]]]

    @classmethod
    def parse(cls, text: str) -> Metrics:
        """Read Prometheus text; lines that are no samples are passed over."""
        samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for line in text.splitlines():
            found = _SAMPLE.match(line)
            if found is None or line.startswith("#"):
                continue
            name, labels, value = found.groups()
            try:
                number = float(value)
            except ValueError:
                continue
            samples.setdefault(name, []).append((dict(_LABEL.findall(labels or "")), number))
        return cls(samples)

    def total(self, name: str) -> float:
        """The sum of a metric over its labels (0 where it is absent)."""
        return sum(value for _, value in self.samples.get(name, ()))

    @property
    def busy(self) -> float:
        """Requests that the engine runs or holds."""
        return self.total("vllm:num_requests_running") + self.total("vllm:num_requests_waiting")

    @property
    def generated(self) -> float:
        """Output tokens since the server started."""
        return self.total("vllm:generation_tokens_total")


@dataclass(frozen=True)
class ServerFacts:
    """What is known of a server before it is measured."""

    model: str
    version: str
    max_model_len: int
    block_size: int
    kv_blocks: int
    max_num_batched_tokens: int
    max_num_seqs: int
    prefix_caching: bool
    metrics: bool
    """Without ``/metrics`` another load on the server cannot be noticed."""
    cache_dtype: str = "auto"
    assumed: tuple[str, ...] = ()
    """Limits that neither the server nor the person stated: vLLM's defaults."""

    @property
    def kv_tokens(self) -> int:
        """KV capacity in tokens (one block is vLLM's null block)."""
        return (self.kv_blocks - 1) * self.block_size


async def scrape(client: Client) -> Metrics | None:
    """The server's metrics, or None where it has none."""
    answer = await client.get("/metrics")
    if may_pass(answer.status_code):
        raise AnswerError(f"{client.url}/metrics: HTTP {answer.status_code}")
    if answer.status_code != 200 or "vllm:" not in answer.text:
        return None
    return Metrics.parse(answer.text)


async def discover(client: Client, options: MeasureOptions) -> ServerFacts:
    """Ask the server for its model and limits; raises ``ServerError`` or ``ConfigError`` that says what is missing."""
    model, max_model_len = await _served_model(client, options.model)
    version = await client.get("/version")
    metrics = await scrape(client)
    cache = metrics.samples.get("vllm:cache_config_info", [({}, 0.0)])[0][0] if metrics is not None else {}
    kv_blocks = options.kv_blocks or _positive(cache.get("num_gpu_blocks"))
    block_size = options.block_size or _positive(cache.get("block_size"))
    if kv_blocks is None or block_size is None:
        why = "has no vLLM metrics" if metrics is None else "does not report its KV cache (vllm:cache_config_info)"
        raise ConfigError(
            f"{client.url}/metrics {why}: state kv_blocks=... and block_size=... to measure without it"
            + (" (another load on the server will go unnoticed)" if metrics is None else "")
        )
    stated = {"max_num_batched_tokens": options.max_num_batched_tokens, "max_num_seqs": options.max_num_seqs}
    return ServerFacts(
        model=model,
        version=_version(version),
        max_model_len=min(max_model_len, (kv_blocks - 1) * block_size),
        block_size=block_size,
        kv_blocks=kv_blocks,
        max_num_batched_tokens=options.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS,
        max_num_seqs=options.max_num_seqs or DEFAULT_MAX_NUM_SEQS,
        prefix_caching=cache.get("enable_prefix_caching") == "True",
        metrics=metrics is not None,
        cache_dtype=cache.get("cache_dtype", "auto"),
        assumed=tuple(name for name, value in stated.items() if value is None),
    )


async def _served_model(client: Client, wanted: str | None) -> tuple[str, int]:
    answer = await client.get("/v1/models")
    if may_pass(answer.status_code):
        raise AnswerError(f"{client.url}/v1/models: HTTP {answer.status_code}")
    if answer.status_code != 200:
        raise ServerError(f"{client.url}/v1/models: HTTP {answer.status_code}: not an OpenAI-compatible server")
    try:
        served = {_text(entry["id"]): entry.get("max_model_len") for entry in answer.json()["data"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ServerError(f"{client.url}/v1/models: not the answer of an OpenAI-compatible server") from None
    if wanted is not None and wanted not in served:
        raise ServerError(f"{client.url} does not serve '{wanted}'; it serves: {', '.join(served) or 'nothing'}")
    if wanted is None and len(served) != 1:
        raise ServerError(f"{client.url} serves {', '.join(served) or 'nothing'}: say which with model=...")
    model = wanted if wanted is not None else next(iter(served))
    if type(served[model]) is not int or served[model] < 1:
        raise ServerError(f"{client.url}/v1/models does not say max_model_len of '{model}'; vLLM and SGLang do")
    return model, served[model]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _version(answer: httpx.Response) -> str:
    """What the server calls its version; "unknown" where it says none."""
    try:
        return str(answer.json().get("version", "unknown")) if answer.status_code == 200 else "unknown"
    except (ValueError, AttributeError, RecursionError):
        return "unknown"


def _positive(text: str | None) -> int | None:
    """The number that a label spells; None where it spells none that can be a count of tokens or blocks."""
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


async def wait_until_idle(client: Client, patience_s: float) -> Metrics:
    """Wait for the server to have nothing to do; raises ``ServerError`` when it is busy for too long."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + patience_s
    while True:
        metrics = await scrape(client)
        if metrics is None:
            raise ServerError(f"{client.url}/metrics: gone since the run started")
        if metrics.busy == 0:
            return metrics
        if loop.time() >= deadline_s:
            raise ServerError(
                f"{client.url}: another load keeps the server busy ({metrics.busy:g} requests after {patience_s:g} s)"
            )
        await asyncio.sleep(0.05)
