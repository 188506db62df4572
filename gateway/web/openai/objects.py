"""Files and batches as OpenAI's objects, and who may see them: the words that both routes share.

Whoever has the permission `batch` sees the files and batches of their department. The content of a file is for its
owner alone: the key that sent it, or the person who holds that key. What may not be seen is told as none at all.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from litestar.connection import Request as HttpRequest
from litestar.response import Response
from msgspec import Struct

from gateway.errors import InvalidRequest, NotFound, NotPermitted
from gateway.records import ALL, Caller, covers, may
from gateway.store.batch_shape import Batch, Counts, StoredFile
from gateway.wire.fields import Body, bad, integer, known, members
from gateway.wire.words import quote

SHORTEST, LONGEST = 3600, 2_592_000
"""Seconds that a file may be kept for, where its sender says so: an hour to 30 days."""

PURPOSE = "batch"
"""The purpose of an input file."""

_OWNER_LONGEST = 200  # characters of an owner's name that the table takes
_FILE = re.compile(r"file-[0-9a-f]{32}")
_BATCH = re.compile(r"batch_[0-9a-f]{32}")


class Pace(Struct, frozen=True, kw_only=True):
    """How fast a batch goes: lines a second, and the seconds that are left; None where nobody can tell."""

    rate: float | None = None
    eta_seconds: int | None = None


def is_file_id(text: str) -> bool:
    """Tell whether `text` has the form of a file's id."""
    return _FILE.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Tell whether `text` has the form of a batch's id."""
    return _BATCH.fullmatch(text) is not None


def json_of(body: Mapping[str, Any]) -> Response[bytes]:
    """Answer with `body`."""
    return Response(msgspec.json.encode(body), media_type="application/json")


def no_file(file_id: str, param: str | None = None) -> NotFound:
    """Make the answer for a file that is not there, or not for this key."""
    return NotFound(
        f"there is no file {quote(file_id)} for this key; `GET /v1/files` lists those that there are", param=param
    )


def no_batch(batch_id: str, param: str | None = None) -> NotFound:
    """Make the answer for a batch that is not there, or not for this key."""
    return NotFound(
        f"there is no batch {quote(batch_id)} for this key; `GET /v1/batches` lists those that there are", param=param
    )


def scope_of(caller: Caller) -> str:
    """Give the department whose files and batches `caller` sees, ``*`` for all."""
    return ALL if covers(caller, ALL) else caller.department


def own_department(caller: Caller) -> str:
    """Give the department that `caller` makes files and batches for. Raises NotPermitted for a key of all of them."""
    if caller.department == ALL:
        raise NotPermitted(
            "a key for every department can send no batch, since a department's policy decides it; use a key of the "
            "department",
            code="insufficient_permissions",
        )
    return caller.department


def owns(caller: Caller, file: StoredFile) -> bool:
    """Tell whether the content of `file` is for `caller`."""
    return covers(caller, file.department) and file.owner in (caller.key, _holder(caller))


def owner_of(caller: Caller) -> str:
    """Name the owner of what `caller` sends: the person where one is known, who may hold several keys, else the key."""
    return _holder(caller) or caller.key


def _holder(caller: Caller) -> str | None:
    # The prefix keeps a person's name, which an identity provider gives, from ever being taken for the id of a key.
    name = None if caller.person is None else f"person:{caller.person}"
    return name if name is not None and len(name) <= _OWNER_LONGEST else None


def sees(caller: Caller, batch: Batch) -> bool:
    """Tell whether there is this batch for `caller`. Re-audits are for those who may judge decisions."""
    return covers(caller, batch.department) and (batch.kind != "reaudit" or may(caller, "review"))


def file_object(file: StoredFile) -> dict[str, Any]:
    """Give a file as OpenAI's object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": _seconds(file.created_at),
        "expires_at": _seconds(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(batch: Batch, counts: Counts, pace: Pace) -> dict[str, Any]:
    """Give a batch as OpenAI's object, with what is the gateway's own in the member `gateway`."""
    errors = [
        {"code": each.code, "message": each.message, "param": each.param, "line": each.line} for each in batch.errors
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.input_file,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.in_progress_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "completed_at": _seconds(batch.completed_at),
        "failed_at": _seconds(batch.failed_at),
        "expired_at": _seconds(batch.expired_at) if batch.status == "expired" else None,  # not while it is finalized
        "cancelling_at": _seconds(batch.cancelling_at),
        "cancelled_at": _seconds(batch.cancelled_at),
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "metadata": batch.metadata,
        "gateway": {
            "kind": batch.kind,
            "department": batch.department,
            "priority": batch.priority,
            "paused": batch.paused,
            "report_file_id": batch.report_file,
            "by_outcome": counts.by_outcome,
            "reasons": counts.reasons,
            "rate": pace.rate,
            "eta_seconds": pace.eta_seconds,
        },
    }


def page_object(rows: Sequence[Mapping[str, Any]], *, more: bool) -> dict[str, Any]:
    """Give a page of objects as OpenAI's list."""
    return {
        "object": "list",
        "data": rows,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
        "has_more": more,
    }


def query_of(request: HttpRequest[Any, Any, Any], allowed: Iterable[str]) -> dict[str, str]:
    """Read the query. Raises InvalidRequest for a field that is unknown or stands twice."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            bad(name[:64], f"{quote(name)} is given twice; give it once")
        found[name] = str(value)
    known(found, allowed, "")
    return found


def limit_of(query: Mapping[str, str], most: int, default: int) -> int:
    """Read the length of a page."""
    text = query.get("limit")
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
        return int(text)
    raise InvalidRequest(f"`limit` is {quote(text)}; give a whole number from 1 to {most}", param="limit")


def expiry(value: object, param: str) -> int:
    """Read an object such as ``{"anchor": "created_at", "seconds": 86400}``: the seconds."""
    wanted = f'an object such as `{{"anchor": "created_at", "seconds": {LONGEST}}}`'
    body: Body = members(value, param, wanted)
    known(body, ("anchor", "seconds"), param)
    if body.get("anchor") != "created_at":
        bad(f"{param}.anchor", f"`{param}.anchor`: give `created_at`, the one time that is taken", "invalid_value")
    renamed = f"{param}.seconds"
    seconds = integer({renamed: body.get("seconds")}, renamed, SHORTEST, LONGEST)
    if seconds is None:
        bad(renamed, f"`{renamed}` is missing; give a whole number from {SHORTEST} to {LONGEST}", "missing_parameter")
    return seconds


def _seconds(at: dt.datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
