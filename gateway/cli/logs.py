"""Process logs that can not hold a patient's text.

Only the gateway's own loggers print messages, and those are written without content. Of every other library's record
only logger, level and place are printed: its message may quote what it was working on. Tracebacks are told by type
and place.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import warnings
from types import TracebackType
from typing import Any

from gateway.errors import describe


class _Line(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.name == "gateway" or record.name.startswith("gateway."):
            line["message"] = record.getMessage()
        else:
            line["place"] = f"{record.filename}:{record.lineno}"
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def _crash(kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None) -> None:
    if exc is None or issubclass(kind, KeyboardInterrupt):
        return
    exc.__traceback__ = trace
    logging.getLogger("gateway").critical("uncaught %s", describe(exc))


def configure_logs(level: str) -> None:
    """Send all logs, warnings and uncaught exceptions of this process to standard error, without content."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "litestar", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default" if level == "debug" else "ignore")
    sys.excepthook = _crash
    threading.excepthook = lambda args: _crash(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _crash(args.exc_type, args.exc_value, args.exc_traceback)
