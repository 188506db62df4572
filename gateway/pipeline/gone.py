"""Whether the caller has gone: nobody would read an answer then, and the model is stopped."""

from __future__ import annotations

import asyncio

GONE = "caller-gone"
"""The cause, and the reason, that is recorded where the caller had gone before the answer was ready."""


class Gone:
    """Tells once that the caller has gone. It is made in the event loop that it is used in."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def told(self) -> bool:
        """Say whether the caller has gone."""
        return self.future.done()

    def tell(self) -> None:
        """Say that the caller has gone; once more changes nothing."""
        if not self.future.done():
            self.future.set_result(None)
