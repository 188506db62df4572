"""Wakes a worker from the process that serves, once there is work."""

from __future__ import annotations

import asyncio
import logging
import threading

from gateway.batch.broker import broker_place
from gateway.batch.tasks import send_work
from gateway.batch.worker import create_worker
from gateway.errors import describe
from gateway.settings import Settings

_SECONDS = 2.0
_log = logging.getLogger("gateway.batch")


class Waker:
    """Sends the message that wakes a worker. Raises ConfigurationError where the URL of the broker is none."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_worker(settings)
        self._place = broker_place(settings)
        self._sending = threading.Lock()
        self._away = False

    async def wake(self) -> None:
        """Send it, and wait 2 s for that at the most; a broker that is away is a warning, and no error.

        Workers look for work by themselves, some seconds later then.
        """
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def send() -> None:
            with self._sending:
                trouble = self._send()
            self._tell(trouble)
            try:
                loop.call_soon_threadsafe(sent.set)
            except RuntimeError:  # the server has ended meanwhile
                return

        if self._sending.locked():  # a message is on its way already, and wakes for both
            return
        # No executor's thread: the server would wait for it at its end.
        threading.Thread(target=send, name="wake", daemon=True).start()
        try:
            await asyncio.wait_for(sent.wait(), _SECONDS)
        except TimeoutError:
            self._tell("it does not answer")

    def _send(self) -> str | None:
        try:
            send_work(self._app)
        except Exception as exc:  # noqa: BLE001 - whatever the broker's library raises
            return describe(exc)
        return None

    def _tell(self, trouble: str | None) -> None:
        if trouble is not None and not self._away:
            _log.warning(
                "%s can not be reached (%s); workers look for work themselves, some seconds later", self._place, trouble
            )
        elif trouble is None and self._away:
            _log.warning("%s is reached again", self._place)
        self._away = trouble is not None
