"""Celery's messages as files of one folder, for one machine without a server.

Celery's own transport of this kind reads a message that is only half written, or a table of exchanges that another
process is just writing, and what it can not read ends the worker. Here a message appears whole or not at all, one
that can not be read is dropped, and there are no tables: every message goes to the one queue.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

SCHEME = "gateway-folder"
"""Names this transport in the URL of a broker."""

OLD = 3600.0
"""Seconds after which a message that nobody took is dropped: whatever it asked for was asked for again since."""

POLL = 0.2
"""Seconds from one look into the folder to the next."""

_MESSAGE = ".msg"
_WAIT = 0.5  # seconds


class Channel(filesystem.Channel):
    """Puts messages into the folder, and takes them."""

    def get_table(self, exchange: str) -> list[Any]:
        """Tell that an exchange leads to the queue of its name."""
        return [filesystem.exchange_queue_t(exchange, "", exchange)]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Do nothing: see `get_table`."""

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        self._purge(queue)

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        del kwargs
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}{_MESSAGE}"
        place = Path(self.data_folder_out, name)
        part = place.with_suffix(".part")
        try:
            part.write_text(dumps(payload))
            part.replace(place)
        except OSError as exc:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise ChannelError(f"a message can not be written ({os.strerror(exc.errno or 0)})") from None

    def _get(self, queue: str) -> Any:
        for name in sorted(self._names(queue)):
            place = Path(self.data_folder_in, name)
            mine = place.with_suffix(f".{uuid.uuid4().hex}.part")
            try:
                place.rename(mine)  # whoever renames it has it
                text = mine.read_text(errors="replace")
                mine.unlink()
            except OSError:
                continue
            try:
                return loads(text)
            except ValueError:
                continue
        raise Empty

    def _purge(self, queue: str) -> int:
        names = self._names(queue)
        for name in names:
            with contextlib.suppress(OSError):
                Path(self.data_folder_in, name).unlink()
        return len(names)

    def _size(self, queue: str) -> int:
        return len(self._names(queue))

    def _names(self, queue: str) -> list[str]:
        try:
            return [place.name for place in Path(self.data_folder_in).glob(f"*.{queue}{_MESSAGE}")]
        except OSError as exc:
            raise ChannelError(f"the folder of messages can not be read ({os.strerror(exc.errno or 0)})") from None


class Transport(filesystem.Transport):
    """Makes channels of this kind."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> Any:
        """Wait for messages, but never for long: signals to end are looked at in between."""
        return super().drain_events(connection, timeout=min(_WAIT if timeout is None else timeout, _WAIT))


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


def tidy(folder: Path, now: float | None = None) -> int:
    """Drop what lies in the folder for longer than `OLD` seconds; give how much it was."""
    before = (time.time() if now is None else now) - OLD
    gone = 0
    with contextlib.suppress(OSError):
        for place in folder.iterdir():
            with contextlib.suppress(OSError):
                if place.stat().st_mtime < before and place.suffix in (_MESSAGE, ".part"):
                    place.unlink()
                    gone += 1
    return gone
