"""Where the gateway runs, and what its clock is worth: what stands in a record beside its time."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.records.digest import Digester
from gateway.records.outcome import ClockState, Where

_log = logging.getLogger("gateway.clock")

ASK_EVERY = 60.0
"""Seconds after which the system is asked again whether its clock is synchronised; so long a jump is told, too."""

JUMP = 0.5
"""Seconds between wall clock and monotonic clock above which the wall clock has jumped, and was not merely slewed."""

_TIME_ERROR = 5  # what adjtimex(2) returns for a clock that is not synchronised
_INSTANCE = "instance"


class _Timex(ctypes.Structure):
    """The head of Linux's `struct timex`; the rest is room that the kernel fills."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_long * 64))


def kernel_state() -> ClockState:
    """Ask the system, by adjtimex(2) without changing anything: some microseconds; ``unknown`` where there is none."""
    if not sys.platform.startswith("linux"):
        return "unknown"
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.byref(_Timex()))
    except (OSError, AttributeError):
        return "unknown"
    if answer < 0:
        return "unknown"
    return "unsynchronised" if answer == _TIME_ERROR else "synchronised"


def steady() -> float:
    """Give seconds of a clock that nobody sets, and that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Clock:
    """Watches the wall clock; `state` is cheap enough for every request."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady,
        ask: Callable[[], ClockState] = kernel_state,
    ) -> None:
        self._wall, self._steady, self._ask = wall, steady, ask
        self._known = ask()
        now = steady()
        self._asked, self._apart, self._jumped = now, wall() - now, float("-inf")

    def state(self) -> ClockState:
        """Tell what the wall clock is worth now. A jump is told for a minute, and once in the process's log."""
        now = self._steady()
        apart = self._wall() - now
        moved = apart - self._apart
        if abs(moved) > JUMP:
            self._jumped = now
            _log.warning("the wall clock moved by %.1f s against the monotonic clock", moved)
        # Slewing is followed, so that it never adds up to a jump.
        self._apart = apart
        if now - self._asked >= ASK_EVERY:
            self._known, self._asked = self._ask(), now
        return "jumped" if now - self._jumped < ASK_EVERY else self._known


class Witness:
    """What is stamped on every outcome: `where`, and the state of the clock."""

    def __init__(self, where: Where, clock: Clock) -> None:
        self.where = where
        self._clock = clock

    @classmethod
    def of(cls, data_dir: Path, digester: Digester) -> Witness:
        """Make the witness of a process with this `data_dir`. Raises ConfigurationError where that is not writable."""
        where = Where(
            instance=instance_id(data_dir),
            host=digester.digest("host", socket.gethostname().encode())[:32],
            process=secrets.token_hex(8),
        )
        return cls(where, Clock())

    def clock(self) -> ClockState:
        """Tell what the wall clock is worth now."""
        return self._clock.state()


def instance_id(data_dir: Path) -> str:
    """Give the id of `data_dir`: 32 hex characters drawn at the first start, kept in its file ``instance``.

    Several processes that start at once get the same. Raises ConfigurationError where it can not be read or made.
    """
    path = data_dir / _INSTANCE
    try:
        if not path.exists():
            draft = path.with_name(f".{_INSTANCE}.{secrets.token_hex(8)}")
            draft.write_text(secrets.token_hex(16) + "\n", encoding="ascii")
            with contextlib.suppress(FileExistsError):  # another process was first: its id counts
                os.link(draft, path)
            draft.unlink()
        found = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigurationError(f"`{path}`: can not be read or made ({why}); make the data folder writable") from None
    if len(found) != 32 or not set(found) <= set("0123456789abcdef"):
        raise ConfigurationError(f"`{path}`: expected 32 hex characters; remove it, and another id is drawn")
    return found
