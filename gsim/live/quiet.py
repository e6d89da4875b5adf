"""What a server need not say: a client that speaks no HTTP is answered, and that is all."""

from __future__ import annotations

import logging

from aiohttp.http import HttpProcessingError


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def hush() -> None:
    """Leave out tracebacks of requests that cannot be parsed (probes for other protocols); others are still shown."""
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
