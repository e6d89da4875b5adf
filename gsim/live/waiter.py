"""One coroutine that waits for others to say that there is something new."""

from __future__ import annotations

import asyncio


class Waiter:
    """Wakes the one coroutine that waits; what was said while it did not wait wakes it at once."""

    __slots__ = ("_future", "_said")

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None
        self._said = False

    def wake(self) -> None:
        """There is something new."""
        self._said = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Until something new was said."""
        if not self._said:
            self._future = asyncio.get_running_loop().create_future()
            try:
                await self._future
            finally:
                self._future = None
        self._said = False
