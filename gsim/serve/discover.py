"""What servers say of themselves before anything is sent to them: model, limits, cache; and their gauges later."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from gsim.core import ConfigError, Gauges, StaticView
from gsim.latency import Profile, load_profile

#: What a server is taken for before anything is known of it: speeds of a middling card with an 8B model.
_TPOT_S, _PREFILL_S, _TOKENS_PER_S, _KV_TOKENS = 0.02, 1e-4, 1500.0, 100_000
_GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
_LONGEST_BODY = 16 << 20


@dataclass(frozen=True)
class ServerFacts:
    """One server."""

    url: str
    name: str
    model: str
    max_model_len: int
    kv_tokens: int
    block_size: int
    profile: Profile | None
    answers: bool = True
    """False: it did not, and is taken for one like the first that did."""


class _SilentError(ConfigError):
    """No server answers there."""


async def discover(http: aiohttp.ClientSession, places: list[tuple[str, str | None]]) -> list[ServerFacts]:
    """Ask every server; raises ``ConfigError`` where none answers, or where one answers otherwise than such a server.

    No two have the same name.
    """
    asked = (_facts(http, url, profile) for url, profile in places)
    found = await asyncio.gather(*asked, return_exceptions=True)
    for answer in found:
        if isinstance(answer, BaseException) and not isinstance(answer, _SilentError):
            raise answer
    known = [answer for answer in found if isinstance(answer, ServerFacts)]
    if not known:
        raise next(answer for answer in found if isinstance(answer, BaseException))
    facts = [
        answer if isinstance(answer, ServerFacts) else _taken_for(known[0], url, profile)
        for answer, (url, profile) in zip(found, places, strict=True)
    ]
    names = Counter(each.name for each in facts)
    return [_told_apart(each) if names[each.name] > 1 else each for each in facts]


def _told_apart(server: ServerFacts) -> ServerFacts:
    return replace(server, name=f"{server.name} at {_where(server.url)}")


def _taken_for(other: ServerFacts, url: str, profile: str | None) -> ServerFacts:
    """A server that does not answer: what is known of it, and else what is known of another."""
    known = load_profile(profile) if profile else None
    return replace(other, url=url, name=_where(url), profile=known or other.profile, answers=False)


def _where(url: str) -> str:
    return url.partition("://")[2]


async def _facts(http: aiohttp.ClientSession, url: str, profile: str | None) -> ServerFacts:
    models = await _json(http, f"{url}/v1/models")
    try:
        card = models["data"][0]
        model, longest = str(card["id"]), int(card.get("max_model_len") or 1 << 20)
    except (KeyError, IndexError, TypeError, ValueError):
        raise ConfigError(f"{url}/v1/models: not the answer of an OpenAI-compatible server") from None
    version = await _json(http, f"{url}/version", required=False)
    if profile is None and str(version.get("version", "")).startswith("gsim-"):
        profile = str(version["profile"]) if "profile" in version else None
    cache = await _cache(http, url)
    block_size = cache.get("block_size", 16)
    known = load_profile(profile) if profile else None
    held = known.kv_tokens if known is not None else _KV_TOKENS
    tokens = (cache["num_gpu_blocks"] - 1) * block_size if "num_gpu_blocks" in cache else held
    name = str(version.get("instance") or _where(url))
    return ServerFacts(url, name, model, longest, tokens, block_size, known)


async def _json(http: aiohttp.ClientSession, url: str, *, required: bool = True) -> dict[str, Any]:
    try:
        async with asyncio.timeout(10.0), http.get(url) as response:
            text = await response.content.read(_LONGEST_BODY)
            if response.status == 200:
                values = json.loads(text)
                if isinstance(values, dict):
                    return values
            problem: type[ConfigError] = _SilentError if response.status >= 500 else ConfigError
            why = f"HTTP {response.status}"
    except ValueError as error:
        problem, why = ConfigError, type(error).__name__
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        problem, why = _SilentError, type(error).__name__
    if required:
        raise problem(f"{url}: no OpenAI-compatible server answers there ({why})")
    return {}


async def _cache(http: aiohttp.ClientSession, url: str) -> dict[str, int]:
    """Whole numbers of ``vllm:cache_config_info``; empty where there is none."""
    try:
        async with asyncio.timeout(10.0), http.get(f"{url}/metrics") as response:
            text = (await response.content.read(_LONGEST_BODY)).decode("utf-8", "replace")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("vllm:cache_config_info"):
                    return {key: int(value) for key, value in sample.labels.items() if value.isdigit()}
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        pass
    return {}


async def read_gauges(http: aiohttp.ClientSession, url: str, timeout_s: float) -> Gauges | None:
    """A server's load now; None where it cannot be read, or where what it says cannot be."""
    query = "&".join(f"name[]={name}" for name in _GAUGES)
    try:
        async with asyncio.timeout(timeout_s), http.get(f"{url}/metrics?{query}") as response:
            if response.status != 200:
                return None
            text = (await response.content.read(_LONGEST_BODY)).decode("utf-8", "replace")
        found = dict.fromkeys(_GAUGES, math.nan)
        for family in text_string_to_metric_families(text):
            if family.name in found:
                found[family.name] = sum(sample.value for sample in family.samples)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    running, waiting, usage = (found[name] for name in _GAUGES)
    if not (0 <= running < 1e6 and 0 <= waiting < 1e6 and 0 <= usage <= 1.001):
        return None
    return Gauges(int(running), int(waiting), min(usage, 1.0))


def static_view(servers: list[ServerFacts]) -> StaticView:
    """What is known of the servers; raises ``ConfigError`` where they serve unlike models."""
    models = sorted({server.model for server in servers})
    if len(models) > 1:
        raise ConfigError(f"backends serve different models ({', '.join(models)}); give servers of one model")
    profiles = [server.profile for server in servers]

    def each(name: str, otherwise: float) -> Any:
        return np.array([float(getattr(profile, name, otherwise)) for profile in profiles])

    def whole(name: str, otherwise: int) -> Any:
        return np.array([int(getattr(profile, name, otherwise)) for profile in profiles], dtype=np.int64)

    return StaticView(
        gpu=tuple(profile.gpu if profile is not None else "unknown" for profile in profiles),
        model=tuple(server.model for server in servers),
        nominal_tpot_s=each("nominal_tpot_s", _TPOT_S),
        nominal_prefill_s_per_token=each("nominal_prefill_s_per_token", _PREFILL_S),
        nominal_tokens_per_s=each("nominal_tokens_per_s", _TOKENS_PER_S),
        kv_capacity_tokens=np.array([server.kv_tokens for server in servers], dtype=np.int64),
        max_num_seqs=whole("max_num_seqs", 256),
        max_num_batched_tokens=whole("max_num_batched_tokens", 2048),
        block_size=servers[0].block_size,
        price_per_hour=each("price_per_hour", 0.0),
        layout=tuple(server.model for server in servers),
        cards=np.array([p.deployment.cards if p is not None else 1 for p in profiles], dtype=np.int64),
    )
