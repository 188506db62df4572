"""A FHIR Bundle on disk: its entries are decoded one at a time, and references are resolved inside it alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.intake.line import Unfit, shown_name
from gateway.intake.places import read_regular

LARGEST = 1 << 30
"""Bytes of a bundle; it is held in memory, once."""

Body = Mapping[str, Any]

_NAME = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_BASE = re.compile(r"(.*/)[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_NOT_FETCHED = "nothing is fetched, so put what it names into the bundle or below --images-root"


class _Entry(Struct):
    full_url: Any = msgspec.field(name="fullUrl", default=None)
    resource: msgspec.Raw = msgspec.Raw()


class _Bundle(Struct):
    kind: Any = msgspec.field(name="resourceType", default=None)
    entry: list[_Entry] = []


class _Head(Struct):
    kind: Any = msgspec.field(name="resourceType", default=None)
    id: Any = None


class Resource(Struct, frozen=True):
    """A resource, with the address of its entry where it has one."""

    body: Body
    url: str | None = None

    @property
    def kind(self) -> str:
        """Give its type."""
        return text(self.body.get("resourceType"))

    @property
    def name(self) -> str:
        """Give its type and id, as references name it, or its address."""
        own = text(self.body.get("id"))
        return f"{self.kind}/{own}" if own else self.url or self.kind


def text(value: object) -> str:
    """Give a string without spaces around it; what is none is empty."""
    return value.strip() if isinstance(value, str) else ""


def one(value: object) -> Body:
    """Give an object; what is none is empty."""
    return value if isinstance(value, dict) else {}


def many(value: object) -> Sequence[Body]:
    """Give the objects of a list; what is none is empty."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


class Bundle:
    """A bundle of R4 or R5, opened."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigurationError: it can not be read, or is no bundle.
        """
        try:
            raw = read_regular(path, str(path), LARGEST).removeprefix(b"\xef\xbb\xbf")
            found = msgspec.json.decode(raw, type=_Bundle)
        except Unfit as exc:
            raise ConfigurationError(str(exc)) from None
        except RecursionError:
            raise ConfigurationError(f"{path}: is nested too deeply; send a bundle of ServiceRequests") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            why = str(exc) if isinstance(exc, msgspec.ValidationError) else "it is no JSON in UTF-8"
            raise ConfigurationError(f"{path}: is no FHIR bundle ({why[:1].lower()}{why[1:]})") from None
        if found.kind != "Bundle":
            raise ConfigurationError(f"{path}: is no FHIR bundle; give a resource of type `Bundle` in JSON")
        self._entries = found.entry
        self._by_url: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._twice: set[str] = set()
        self._kinds: list[str] = []
        for place, entry in enumerate(found.entry):
            self._kinds.append(self._add(place, entry))

    def _add(self, place: int, entry: _Entry) -> str:
        """Enter the entry into the index, and give its type."""
        try:
            head = msgspec.json.decode(entry.resource, type=_Head) if len(entry.resource) else _Head()
        except (msgspec.DecodeError, RecursionError):
            return ""
        kind, own = text(head.kind), text(head.id)
        for key, index in ((text(entry.full_url), self._by_url), (f"{kind}/{own}" if own else "", self._by_name)):
            if key and index.setdefault(key, place) != place:
                self._twice.add(key)
        return kind

    def of_kind(self, kind: str) -> Iterator[int]:
        """Give the places of the resources of a type."""
        return (place for place, found in enumerate(self._kinds) if found == kind)

    def read(self, place: int) -> Resource:
        """Decode an entry.

        Raises:
            Unfit: it can not be.
        """
        entry = self._entries[place]
        try:
            body = msgspec.json.decode(entry.resource)
        except (msgspec.DecodeError, RecursionError):
            raise Unfit("its resource can not be read; it is nested too deeply or not UTF-8") from None
        return Resource(one(body), text(entry.full_url) or None)

    def find(self, reference: str, within: Resource) -> Resource | None:
        """Give the resource that `reference` names in the resource `within`; None where the bundle has none.

        A fullUrl counts first, then what the reference is relative to the referring entry's, then type and id.

        Raises:
            Unfit: the address is remote and not in the bundle, or two entries have it.
        """
        if reference.startswith("#"):
            inside = many(within.body.get("contained"))
            body = next((each for each in inside if text(each.get("id")) == reference[1:]), None)
            return None if body is None else Resource(body)
        reference = reference.partition("/_history/")[0]
        tried = [reference]
        if _NAME.fullmatch(reference):
            base = _BASE.fullmatch(within.url or "")
            tried += [base[1] + reference] if base else []
        for key, index in [(key, self._by_url) for key in tried] + [(reference, self._by_name)]:
            if key in index:
                if key in self._twice:
                    raise Unfit(f"the reference {shown_name(reference)} fits two entries of the bundle; keep one")
                return self.read(index[key])
        if _SCHEME.match(reference):
            raise Unfit(f"the reference {shown_name(reference)} is not in the bundle; {_NOT_FETCHED}")
        return None
