"""When a server is told to stop: by Ctrl-C, or by whoever started it."""

from __future__ import annotations

import asyncio
import signal


def stop_event() -> asyncio.Event:
    """An event of the running loop that SIGINT and SIGTERM set, from now on in place of ending the process."""
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    return stop
