"""What the lines of a batch said that their reports repeat: patient, study, order. Kept small, by custom id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.errors import ConfigurationError

_BOM = b"\xef\xbb\xbf"


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True, array_like=True):
    """What a line said. `patient` and `study` as in its ``context``, the rest as in its body's ``metadata``."""

    patient: str = ""
    study: str = ""
    patient_issuer: str = ""
    study_uid: str = ""
    accession: str = ""
    based_on: str = ""
    modality: str = ""
    report_code: str = ""
    report_display: str = ""


NOTHING = Facts()
"""The facts of a line that said nothing."""


class _Body(Struct):
    metadata: dict[str, Any] | None = None


class _Input(Struct):
    custom_id: str
    body: _Body
    context: dict[str, Any] | None = None


_lines = msgspec.json.Decoder(_Input)
_packed = msgspec.msgpack.Decoder(Facts)


def _words(given: dict[str, Any] | None, names: Iterable[str]) -> dict[str, str]:
    found = {name: (given or {}).get(name) for name in names}
    return {name: value for name, value in found.items() if isinstance(value, str)}


_SAID = ("patient", "study")
_TOLD = tuple(name for name in Facts.__struct_fields__ if name not in _SAID)


class Index:
    """The facts of all lines of an input file, some 300 bytes for each line that said something."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._facts: dict[str, bytes] = {}
        for raw in lines:
            try:
                line = _lines.decode(raw.removeprefix(_BOM))
            except (msgspec.DecodeError, RecursionError):
                continue  # no request was made of it, so there is no report either
            facts = Facts(**_words(line.context, _SAID), **_words(line.body.metadata, _TOLD))
            if facts != NOTHING:
                self._facts.setdefault(line.custom_id, msgspec.msgpack.encode(facts))

    def of(self, custom_id: str) -> Facts:
        """Give what the line of that id said."""
        packed = self._facts.get(custom_id)
        return NOTHING if packed is None else _packed.decode(packed)


def lines_of(given: Path | Iterable[bytes]) -> Iterator[bytes]:
    """Give the lines of a file, or those given.

    Raises:
        ConfigurationError: the file can not be read.
    """
    if not isinstance(given, Path):
        yield from given
        return
    try:
        with given.open("rb") as file:
            yield from file
    except OSError as exc:
        raise ConfigurationError(f"{given}: can not be read ({(exc.strerror or type(exc).__name__).lower()})") from None
