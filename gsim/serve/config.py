"""What ``python -m gsim.serve`` is asked for, beside the policies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gsim.core import ConfigError


@dataclass
class ServeConfig:
    """How requests are taken, and where they go."""

    backends: list[str]
    """Servers: [http://HOST:PORT,http://HOST:PORT,...]."""
    profiles: list[str] = field(default_factory=list)
    """One for each server, or one for all: how fast they may be expected to be before anything is learned. Emulated
    servers say it themselves; others are taken for equals that nothing is known of."""
    port: int = 8000
    """Port to listen on; 0: a free one, which is printed."""
    host: str = "127.0.0.1"
    """Address to listen on. Whoever reaches it may use the servers, with whatever keys they ask for."""
    slo_ms: float | None = None
    """Objective of requests that come without one (header x-slo-ms, or slo_ms in the body); null: none."""
    moves: str = "greedy"
    """Which requests may be moved by token ids: ``greedy`` (temperature 0: the text stays the same), ``sampled`` (also
    sampled ones: the rest is another draw) or ``none``."""
    retries: int = 2
    """How often a request that failed at a server is tried again."""
    silence_s: float = 120.0
    """A server that sends nothing for so many seconds has failed the request."""
    health_interval_s: float = 1.0
    """Seconds between two looks at /health of each server."""
    health_failures: int = 2
    """After so many of them in a row without an answer nothing is sent there until one succeeds."""
    max_hold_s: float = 600.0
    """A request that was given to no server for so many seconds, as the router held it or none was up, ends (503)."""
    max_requests: int = 4096
    """Requests under way; more are answered with 429."""
    max_body_bytes: int = 16 << 20
    """Requests that are larger are refused."""
    log: str | None = None
    """Folder: requests.jsonl holds a row per finished request, in order of arrival, and is a trace (trace=mooncake);
    ended.jsonl one per request that ended otherwise. What the first holds is learned again at the next start."""
    log_block_size: int = 512
    """Tokens per block id in requests.jsonl (trace.block_size)."""
    speed: float = 1.0
    """Seconds of the policies' clock per second of real time: that of the emulated servers behind."""
    seed: int = 0
    """Of policies that draw."""

    def validate(self) -> None:
        """Refuse what cannot be served; raises ``ConfigError``."""
        for name, least in (("port", 0), ("retries", 0), ("health_failures", 1), ("max_requests", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be {least} or more, not {getattr(self, name)}")
        for name in ("silence_s", "health_interval_s", "max_hold_s", "speed", "log_block_size", "max_body_bytes"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.slo_ms is not None and not 0 < self.slo_ms < math.inf:
            raise ConfigError(f"slo_ms must be above 0, or null, not {self.slo_ms}")
        if self.moves not in ("greedy", "sampled", "none"):
            raise ConfigError(f"moves must be greedy, sampled or none, not {self.moves}")
        self.places()

    def places(self) -> list[tuple[str, str | None]]:
        """Each backend's address and profile; raises ``ConfigError``."""
        urls = [url.rstrip("/").removesuffix("/v1") for url in self.backends]
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ConfigError(f"backends: '{url}' must be http://HOST:PORT")
            _check_address(url)
        if not urls:
            raise ConfigError("backends is empty; give a list such as [http://127.0.0.1:8100,http://127.0.0.1:8101]")
        if len(set(urls)) < len(urls):
            raise ConfigError("backends: an address is given twice")
        if len(self.profiles) not in (0, 1, len(urls)):
            raise ConfigError(f"profiles: {len(self.profiles)} for {len(urls)} backends; give one each, or one for all")
        profiles: list[str | None] = [*self.profiles] or [None]
        profiles *= len(urls) if len(profiles) == 1 else 1
        return list(zip(urls, profiles, strict=True))


def _check_address(url: str) -> None:
    """Raise ``ConfigError`` for an address that means nothing, or more than where a server is."""
    try:
        parts = urlsplit(url)
        known = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ConfigError(f"backends: an address cannot be read ({error}); it must be http://HOST:PORT") from None
    if "@" in parts.netloc:
        # Addresses are printed, logged and labels of metrics: a password in one would be all over the place.
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise ConfigError(f"backends: {where} is given with a user or password; clients send their own keys")
    if not known or parts.query or parts.fragment:
        raise ConfigError(f"backends: '{url}' must be http://HOST:PORT, with nothing behind it but a path")
