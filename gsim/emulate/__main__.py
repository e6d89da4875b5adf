"""Serve a simulated pool: one OpenAI-compatible server per instance, in real time.

    python -m gsim.emulate pool=paper port=8100
    python -m gsim.emulate pool=paper engine.max_num_seqs=64 speed=2 output_tokens='{other: [100, 500]}'

pool, pool.FIELD, engine and engine.FIELD are as in python -m gsim. The other options:
"""

from __future__ import annotations

import sys

from gsim.cli.server import ServerProgram
from gsim.emulate.config import EmulateConfig
from gsim.run.settings import Settings

_GROUPS = ("pool", "engine")


async def serve(settings: Settings, config: EmulateConfig) -> None:
    """Serve until somebody says stop."""
    from gsim.emulate.pool import start_pool
    from gsim.live.quiet import hush
    from gsim.live.stop import stop_event

    hush()
    specs = settings.choices["pool"].build().build(settings.choices["engine"].build())
    pool = await start_pool(specs, config)
    stop = stop_event()
    for spec, url in zip(specs, pool.urls, strict=True):
        print(f"{spec.name}: {url}  ({spec.profile.name})", flush=True)
    print(f"ready: backends=[{','.join(pool.urls)}]", flush=True)
    await stop.wait()
    await pool.close()


main = ServerProgram(__doc__ or "", EmulateConfig, _GROUPS, serve).main


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
