"""What a caller says of a request beside its body, in headers ``x-gateway-…``: why, for whom, about which patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from litestar.connection import Request as HttpRequest

from gateway.errors import InvalidRequest
from gateway.policy.validate import is_code
from gateway.records import NOTHING_SAID, PURPOSES, Context
from gateway.records.context import APPLICATION_LONGEST, NUMBER_LONGEST, PERSON_LONGEST, is_id
from gateway.wire.words import hint, quote

_PREFIX = b"x-gateway-"

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "x-gateway-purpose": "purpose",
        "x-gateway-on-behalf-of": "on_behalf_of",
        "x-gateway-patient": "patient",
        "x-gateway-study": "study",
        "x-gateway-task": "task",
        "x-gateway-person": "claimed_person",
        "x-gateway-application": "claimed_application",
    }
)
"""The headers, and the field of `Context` that each fills."""

_ID = "letters, digits and `. _ @ : / + | = -`, beginning with a letter or digit"
_NUMBER = f"1 to {NUMBER_LONGEST} printable ASCII characters; only a keyed pseudonym of them is kept"


def _is_number(value: str) -> bool:
    return len(value) <= NUMBER_LONGEST and value.isascii() and value.isprintable()


_CHECKS: Mapping[str, tuple[Callable[[str], bool], str]] = MappingProxyType(
    {
        "purpose": (PURPOSES.__contains__, f"a code of HL7's PurposeOfUse: {', '.join(PURPOSES)}"),
        "on_behalf_of": (lambda v: is_id(v, PERSON_LONGEST), f"the person's id of at most {PERSON_LONGEST} {_ID}"),
        "patient": (_is_number, _NUMBER),
        "study": (_is_number, _NUMBER),
        "task": (is_code, "a code of at most 64 letters, digits and `. _ + : -`, such as `report-draft`"),
        "claimed_person": (lambda v: is_id(v, PERSON_LONGEST), f"an id of at most {PERSON_LONGEST} {_ID}"),
        "claimed_application": (
            lambda v: is_id(v, APPLICATION_LONGEST),
            f"an id of at most {APPLICATION_LONGEST} {_ID}",
        ),
    }
)
"""By field: what is taken, and how that is told."""


def read_context(request: HttpRequest[Any, Any, Any]) -> Context:
    """Read the context headers of a request.

    Raises InvalidRequest where one stands twice, is empty or is not what is expected, and where a header looks like one
    of them but is misspelt: what a caller meant to say would be missing in the record.
    """
    return context_in(request.scope["headers"])


def context_in(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Read the context in raw headers, whose names are in lower case, as `read_context` does."""
    said: dict[str, str] = {}
    for raw, value in headers:
        if not raw.startswith(_PREFIX):
            continue
        name = raw.decode("latin-1")
        field = FIELDS.get(name)
        if field is None:
            _misspelt(name)
            continue
        if field in said:
            _bad(name, f"`{name}` stands twice; send it once")
        text = value.decode("latin-1").strip()
        fits, wanted = _CHECKS[field]
        if not text:
            _bad(name, f"`{name}` is empty; give {wanted}, or leave it out")
        if not fits(text):
            # What should be a number or an id may be a name or a sentence: it is not repeated.
            got = quote(text) if field in ("purpose", "task") else "not what is expected"
            _bad(name, f"`{name}` is {got}; give {wanted}")
        said[field] = text
    return Context(**said) if said else NOTHING_SAID


def _misspelt(name: str) -> None:
    prefix = _PREFIX.decode()
    meant = hint(name.removeprefix(prefix), (known.removeprefix(prefix) for known in FIELDS))
    if meant:
        _bad(name[:64], f"unknown header {quote(name)}{meant.replace('`', f'`{prefix}', 1)}")


def _bad(name: str, message: str) -> NoReturn:
    raise InvalidRequest(message, param=name, code="invalid_header")
