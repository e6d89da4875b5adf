"""What a person asks of the harness: typed options, given as ``key=value`` on the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from gsim.core.errors import ConfigError
from gsim.core.options import require


@dataclass
class MeasureOptions:
    """Options of ``measure``: which server, how far, how tight, how long."""

    url: str
    """Where the server answers, without ``/v1``: http://HOST:PORT."""
    gpu: str
    """Name of the GPU (or processor) that it runs on: the server does not tell."""
    out: str = "calibration"
    """Folder of the raw measurements, the profile and the report. An interrupted run goes on in its folder."""
    model: str | None = None
    """Served model; not given: the only one that the server serves."""
    model_config: str | None = None
    """The model's published ``config.json``, for its shape; not given: gsim's catalogue, by the model's name."""
    flags: str = ""
    """The server's command line, as far as it matters: kept with the profile."""
    max_concurrency: int = 32
    """Sequences in flight at most, ever."""
    max_seconds: float = 1800.0
    """Stop measuring after this time; what is not tight then is reported as such."""
    timeout_s: float = 60.0
    """Longest silence of the server inside an answer: without a new token."""
    answer_s: float = 600.0
    """Longest time of one whole answer."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's API key; the key itself is never stored or printed."""
    patience_s: float = 30.0
    """How long to wait for another load on the server to pass."""
    max_failures: int = 5
    """Failed answers in a row after which to give up."""
    tight: float = 0.02
    """A point is tight when the 95 % interval of its median is within this share of it to either side."""
    min_repeats: int = 4
    max_repeats: int = 12
    window_tokens: int = 16
    """Decode iterations that are timed per repeat."""
    injections: int = 4
    """Prompts injected into one decoding batch per repeat of a mixed step."""
    checks: int = 12
    """Points between the grid's, drawn at random: never fitted, they judge the fit."""
    prefill_tokens: list[int] = field(default_factory=list)
    """Chunk lengths of the grid; empty: doubling from 16 to the token budget."""
    prefill_contexts: list[int] = field(default_factory=list)
    """Cached contexts of prefills; empty: 0, then times four from 256 (rounded to blocks)."""
    decode_batches: list[int] = field(default_factory=list)
    """Batch sizes of the grid; empty: doubling from 1 to the limit."""
    decode_contexts: list[int] = field(default_factory=list)
    """Contexts of decodes; empty: times four from 64 to the longest."""
    max_context_tokens: int | None = None
    """Longest context to measure; not given: what the server takes."""
    max_num_batched_tokens: int | None = None
    """The server's token budget; no public endpoint tells it. Not given: vLLM's default of 2048, noted as assumed."""
    max_num_seqs: int | None = None
    """The server's batch limit, likewise. Not given: 256, noted as assumed."""
    kv_blocks: int | None = None
    """KV blocks, where the server has no ``/metrics``."""
    block_size: int | None = None
    """Tokens per KV block, likewise."""
    server_pid: int | None = None
    """Process id of a server on this machine: repeats are dropped in which other programs took its core."""
    max_wait: float = 0.03
    """Largest share of its time that the server's busiest thread may wait for a core (with ``server_pid``)."""
    low_token: int = 10
    high_token: int = 1000
    """Prompts are drawn from the token ids in [low_token, high_token)."""
    seed: int = 0
    price_per_hour: float = 0.0
    """USD per hour, for the profile."""

    def validate(self) -> None:
        """Refuse what cannot be measured; raises ``ConfigError``."""
        for name in ("max_concurrency", "max_repeats", "window_tokens", "injections", "max_failures"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("max_seconds", "timeout_s", "answer_s"):
            require(getattr(self, name) > 0.0, name, getattr(self, name), "above 0")
        require(self.min_repeats >= 2, "min_repeats", self.min_repeats, "at least 2 (the spread must be known)")
        require(self.max_repeats >= self.min_repeats, "max_repeats", self.max_repeats, "at least min_repeats")
        require(0.0 < self.tight < 1.0, "tight", self.tight, "in (0, 1)")
        require(self.checks >= 0 and self.patience_s >= 0.0, "checks, patience_s", self.checks, "0 or more")
        require(0 <= self.low_token < self.high_token - 99, "high_token", self.high_token, "low_token + 100 or more")
        require(self.url.startswith(("http://", "https://")), "url", self.url, "http://HOST:PORT")


@dataclass
class FitOptions:
    """Options of ``fit`` and ``report``: offline, on the raw measurements of a folder."""

    out: str = "calibration"
    """The folder that ``measure`` wrote."""
    name: str | None = None
    """Name of the profile; not given: gpu and model."""

    def validate(self) -> None:
        """Refuse an empty folder name; raises ``ConfigError``."""
        require(bool(self.out), "out", repr(self.out), "a folder")


@dataclass
class ValidateOptions:
    """Options of ``validate``: a load that calibration did not see, live and simulated."""

    url: str
    out: str = "calibration"
    """The folder that ``measure`` wrote; its profile is judged."""
    name: str = "validation"
    """Name of this load: of the files that it leaves in the folder."""
    requests: int = 60
    rate_per_s: float = 4.0
    """Poisson arrivals."""
    prompt_tokens: list[int] = field(default_factory=lambda: [32, 384])
    """Prompt lengths are uniform in this range."""
    output_tokens: list[int] = field(default_factory=lambda: [16, 96])
    """Output lengths are uniform in this range."""
    repeats: int = 3
    """Live replays of the same load (fresh prompts): their spread is the noise that a simulator cannot beat."""
    max_replays: int | None = None
    """Replays at most, where some are disturbed (with ``server_pid``); not given: three times ``repeats``."""
    server_pid: int | None = None
    """Process id of a server on this machine: replays are repeated in which other programs took its core."""
    max_wait: float = 0.03
    """Largest share of its time that the server's busiest thread may wait for a core (with ``server_pid``)."""
    timeout_s: float = 60.0
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's API key; the key itself is never stored or printed."""
    patience_s: float = 30.0
    max_concurrency: int = 256
    async_scheduling: bool = True
    """The server schedules iterations one ahead, vLLM's default; false for a server with ``--no-async-scheduling``."""
    seed: int = 1

    def validate(self) -> None:
        """Refuse what cannot be replayed; raises ``ConfigError``."""
        require(self.requests >= 10, "requests", self.requests, "at least 10")
        require(self.repeats >= 2, "repeats", self.repeats, "at least 2 (the spread must be known)")
        most = self.max_replays
        require(most is None or most >= self.repeats, "max_replays", most, "at least repeats")
        require(self.rate_per_s > 0.0, "rate_per_s", self.rate_per_s, "above 0")
        for name in ("prompt_tokens", "output_tokens"):
            span = getattr(self, name)
            require(len(span) == 2 and 1 <= span[0] <= span[1], name, span, "[low, high] with 1 <= low <= high")


@dataclass
class JudgeOptions:
    """Options of ``judge``: a recorded load simulated again, offline, with the folder's profile of now or another."""

    out: str = "calibration"
    """The folder that ``measure`` and ``validate`` wrote."""
    name: str = "validation"
    """The load: what ``validate`` called it."""
    to: str = ""
    """Name of the files that this leaves; empty: the load's with ``-judged`` behind."""
    profile: str | None = None
    """Profile to be judged (a name or a path); not given: the folder's."""
    async_scheduling: bool = True
    """As for ``validate``."""
    arrival_ms: float = 0.0
    """What each arrival keeps the next iteration from starting: where API server and scheduler share a core."""

    def validate(self) -> None:
        """Refuse what says nothing; raises ``ConfigError``."""
        require(0.0 <= self.arrival_ms < float("inf"), "arrival_ms", self.arrival_ms, "0 or more")
        allowed = self.arrival_ms == 0.0 or self.async_scheduling
        require(allowed, "arrival_ms", self.arrival_ms, "0 without async_scheduling")


@dataclass
class ScaleOptions:
    """Options of ``scale``: a pool of unlike instances from one measured profile."""

    profile: str
    """The measured profile (a YAML file of the iteration kind)."""
    to: str = "profiles"
    """Folder of the copies: ``profiles`` is where they are found by name."""
    speeds: list[float] = field(default_factory=lambda: [1.0, 2.0, 4.0])
    """One copy each: all its iterations take 1 / speed of the measured time."""

    def validate(self) -> None:
        """Refuse speeds that are none; raises ``ConfigError``."""
        require(bool(self.speeds), "speeds", self.speeds, "a list of at least one")
        for speed in self.speeds:
            require(0.0 < speed < float("inf"), "speeds", speed, "above 0")


def api_key(variable: str) -> str:
    """The key in an environment variable ("": there is none); one that was named by hand must be there."""
    key = os.environ.get(variable, "") if variable else ""
    if not key and variable not in ("", "OPENAI_API_KEY"):
        raise ConfigError(f"api_key_env={variable}: there is no such environment variable, or it is empty")
    if not (key.isascii() and key.isprintable()) or " " in key:
        # Not shown: what refuses it later would print it.
        raise ConfigError(f"{variable}: a key is one word of letters and signs (is there a line break at its end?)")
    return key
