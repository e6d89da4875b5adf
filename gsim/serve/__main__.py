"""A gateway in front of live servers, with the policies of the simulation.

    python -m gsim.serve backends=[http://127.0.0.1:8100,http://127.0.0.1:8101] port=8000 slo_ms=6000
    python -m gsim.serve backends=[...] router=goodserve rectifier=risk_monitor predictor=history log=served

router, predictor, estimator, rectifier, mechanism and telemetry, with their fields, are as in python -m gsim; the
predictor must be one that learns (default here: history). The other options:
"""

from __future__ import annotations

import asyncio
import signal
import sys

from gsim.calibration.options import option_help, parse_options
from gsim.cli.one import divided, settings_of
from gsim.core import ConfigError, GsimError
from gsim.run.settings import Settings
from gsim.serve.config import ServeConfig

_GROUPS = ("router", "predictor", "estimator", "rectifier", "mechanism", "telemetry")


async def serve(settings: Settings, config: ServeConfig) -> None:
    """Serve until somebody says stop."""
    from gsim.live.quiet import hush
    from gsim.serve.choices import policies_of, scrape_interval_of
    from gsim.serve.running import start_gateway

    hush()
    telemetry = settings.choices["telemetry"].build()
    interval_s = scrape_interval_of(settings)
    gateway = await start_gateway(config, lambda: policies_of(settings), telemetry, interval_s, settings.max_hold_s)
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    for server in gateway.service.servers:
        speed = server.profile.name if server.profile is not None else "no profile: speeds are learned from scratch"
        print(f"{server.name}: {server.url}, {server.model} ({speed})", flush=True)
    if gateway.service.learned:
        print(f"learned from {gateway.service.learned} earlier requests", flush=True)
    print(f"ready: {gateway.url}", flush=True)
    await stop.wait()
    await gateway.close()


def main(words: list[str]) -> int:
    """Run; the exit status is 0 (stopped) or 2 (it cannot be done, and why)."""
    if any(word in ("-h", "--help") for word in words):
        print(f"{__doc__}\n{option_help(ServeConfig)}")
        return 0
    try:
        own, others = divided(words, ServeConfig.__dataclass_fields__)
        config = parse_options(ServeConfig, own)
        for word in others:
            if word.lstrip("+").partition("=")[0].partition(".")[0] not in _GROUPS:
                known = ", ".join((*_GROUPS, *ServeConfig.__dataclass_fields__))
                raise ConfigError(f"unknown option '{word}'; there are: {known}")
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise ConfigError("servers need one more package: pip install 'gsim[live]'") from None
        if not any(word.startswith("predictor=") for word in others):
            others = ["predictor=history", *others]
        asyncio.run(serve(settings_of(others), config))
    except GsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
