"""Serve a simulated pool: one OpenAI-compatible server per instance, in real time.

    python -m gsim.emulate pool=paper port=8100
    python -m gsim.emulate pool=paper engine.max_num_seqs=64 speed=2 output_tokens='{other: [100, 500]}'

pool, pool.FIELD, engine and engine.FIELD are as in python -m gsim. The other options:
"""

from __future__ import annotations

import asyncio
import signal
import sys

from gsim.calibration.options import option_help, parse_options
from gsim.cli.one import divided, settings_of
from gsim.core import ConfigError, GsimError
from gsim.emulate.config import EmulateConfig
from gsim.run.settings import Settings

_GROUPS = ("pool", "engine")


async def serve(settings: Settings, config: EmulateConfig) -> None:
    """Serve until somebody says stop."""
    from gsim.emulate.pool import start_pool
    from gsim.live.quiet import hush

    hush()
    specs = settings.choices["pool"].build().build(settings.choices["engine"].build())
    pool = await start_pool(specs, config)
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    for spec, url in zip(specs, pool.urls, strict=True):
        print(f"{spec.name}: {url}  ({spec.profile.name})", flush=True)
    print(f"ready: backends=[{','.join(pool.urls)}]", flush=True)
    await stop.wait()
    await pool.close()


def main(words: list[str]) -> int:
    """Run; the exit status is 0 (stopped) or 2 (it cannot be done, and why)."""
    if any(word in ("-h", "--help") for word in words):
        print(f"{__doc__}\n{option_help(EmulateConfig)}")
        return 0
    try:
        own, others = divided(words, EmulateConfig.__dataclass_fields__)
        config = parse_options(EmulateConfig, own)
        for word in others:
            if word.lstrip("+").partition("=")[0].partition(".")[0] not in _GROUPS:
                known = ", ".join((*_GROUPS, *EmulateConfig.__dataclass_fields__))
                raise ConfigError(f"unknown option '{word}'; there are: {known}")
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise ConfigError("servers need one more package: pip install 'gsim[live]'") from None
        asyncio.run(serve(settings_of(others), config))
    except GsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
