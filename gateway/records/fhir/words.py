"""Values of records as FHIR can hold them: its strings are never empty, its ids and URIs have few characters."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import quote

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_UNPRINTABLE = re.compile(r"[^\S \t\r\n]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def text(value: str | None) -> str | None:
    """Give `value` as FHIR's `string`: control characters become spaces; None where nothing is left."""
    if not value:
        return None
    if value.isascii() and value.isprintable():  # most values, and far quicker
        return value.strip() or None
    return _UNPRINTABLE.sub(" ", value).strip() or None


def resource_id(value: str) -> str:
    """Give a resource's id for the id of a record: ``_`` is not allowed there; what else is not allowed is hashed."""
    made = value.replace("_", "-")
    return made if _ID.fullmatch(made) else hashlib.sha256(value.encode()).hexdigest()


def uri(*parts: str) -> str:
    """Give a URI of the gateway's own: the parts, percent-encoded, joined by colons."""
    return "urn:medvlm-gateway:" + ":".join(quote(part, safe="") for part in parts)


def _scalar(value: object) -> str | None:
    if value is True or value is False:
        return "true" if value else "false"
    return text(value if isinstance(value, str) else repr(value))


def flatten(value: object) -> list[tuple[str, str]]:
    """Give every value in `value` with its path, such as ``screening[0].risk``; what is None or empty is left out."""
    found: list[tuple[str, str]] = []
    _flatten(value, "", found)
    return found


def _flatten(value: object, path: str, found: list[tuple[str, str]]) -> None:
    if value is None:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(inner, f"{path}.{name}" if path else name, found)
    elif isinstance(value, list | tuple):
        if all(isinstance(one, str) for one in value):
            joined = text(" ".join(value))
            if joined is not None:
                found.append((path, joined))
            return
        for number, inner in enumerate(value):
            _flatten(inner, f"{path}[{number}]", found)
    else:
        made = _scalar(value)
        if made is not None:
            found.append((path, made))


def lean(value: Any) -> Any:
    """Leave out what is None and what is empty, at every depth: FHIR allows neither."""
    if isinstance(value, dict):
        kept = {name: lean(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner is not None and inner not in ("", [], {})}
    if isinstance(value, list | tuple):
        found = [lean(inner) for inner in value]
        return [inner for inner in found if inner is not None and inner not in ("", [], {})]
    return value
