"""A gateway in front of live servers, with the policies of the simulation.

    python -m gsim.serve backends=[http://127.0.0.1:8100,http://127.0.0.1:8101] port=8000 slo_ms=6000
    python -m gsim.serve backends=[...] router=goodserve rectifier=risk_monitor predictor=history log=served

router, predictor, estimator, rectifier, mechanism and telemetry, with their fields, are as in python -m gsim; the
predictor must be one that learns (default here: history). The other options:
"""

from __future__ import annotations

import sys

from gsim.cli.server import ServerProgram
from gsim.run.settings import Settings
from gsim.serve.config import ServeConfig

_GROUPS = ("router", "predictor", "estimator", "rectifier", "mechanism", "telemetry")


async def serve(settings: Settings, config: ServeConfig) -> None:
    """Serve until somebody says stop."""
    from gsim.live.quiet import hush
    from gsim.live.stop import stop_event
    from gsim.serve.choices import policies_of, scrape_interval_of
    from gsim.serve.running import start_gateway

    hush()
    telemetry = settings.choices["telemetry"].build()
    interval_s = scrape_interval_of(settings)
    gateway = await start_gateway(config, lambda: policies_of(settings), telemetry, interval_s)
    stop = stop_event()
    for server in gateway.service.servers:
        speed = server.profile.name if server.profile is not None else "no profile: speeds are learned from scratch"
        there = "" if server.answers else " does not answer, and gets nothing until it does"
        print(f"{server.name}: {server.url}{there}, {server.model} ({speed})", flush=True)
    if gateway.service.learned:
        print(f"learned from {gateway.service.learned} earlier requests", flush=True)
    print(f"ready: {gateway.url}", flush=True)
    await stop.wait()
    await gateway.close()


main = ServerProgram(__doc__ or "", ServeConfig, _GROUPS, serve, ("predictor=history",)).main


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
