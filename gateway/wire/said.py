"""Checks of what a caller says of a request beside its body: the same for headers and for the lines of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from gateway.errors import InvalidRequest
from gateway.policy.validate import is_code
from gateway.records import PURPOSES, Context
from gateway.records.context import APPLICATION_LONGEST, NUMBER_LONGEST, PERSON_LONGEST, is_id
from gateway.wire.fields import known, members, string
from gateway.wire.words import quote

LINE_FIELDS = ("patient", "study", "task", "purpose", "on_behalf_of")
"""What a line of a batch may say of itself, in its member ``context``."""

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
"""By field of `Context`: what is taken, and how that is told."""


def checked(field: str, text: str, name: str, code: str) -> str:
    """Check what was said for `field` of `Context` under the name `name`; give it without the spaces around it.

    Raises InvalidRequest, with `code`, where it is empty or not what is expected.
    """
    text = text.strip()
    fits, wanted = _CHECKS[field]
    if not text:
        raise InvalidRequest(f"`{name}` is empty; give {wanted}, or leave it out", param=name, code=code)
    if not fits(text):
        # What should be a number or an id may be a name or a sentence: it is not repeated.
        got = quote(text) if field in ("purpose", "task") else "not what is expected"
        raise InvalidRequest(f"`{name}` is {got}; give {wanted}", param=name, code=code)
    return text


def said_of_line(said: Context, value: object) -> Context:
    """Join what was said of a whole batch with the member ``context`` of one of its lines, which counts first.

    Raises InvalidRequest as `checked`, and where it is no object, or has a member that is not known.
    """
    if value is None:
        return said
    given = members(value, "context")
    known(given, LINE_FIELDS, "context")
    found = {
        name: checked(name, string(text, f"context.{name}"), f"context.{name}", "invalid_context")
        for name, text in given.items()
        if text is not None
    }
    return msgspec.structs.replace(said, **found) if found else said
