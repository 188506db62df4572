"""The files of an export: what is written for each record, chunk by chunk, in bounded memory."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

import msgspec
from msgspec import Struct

from gateway.records import Record, canonical
from gateway.records.dicom_audit import audit_message
from gateway.records.fhir import Place, Release, audit_event
from gateway.records.flat import COLUMNS, Cell, csv_cell, flat
from gateway.store.export_place import create, sha256, synced

Format = Literal["ndjson", "csv", "parquet", "fhir", "fhir-r5", "dicom"]
FORMATS: tuple[Format, ...] = get_args(Format)

Redaction = Literal["full", "pseudonymous"]
REDACTIONS: tuple[Redaction, ...] = get_args(Redaction)

RECORDS = "records.ndjson"
PROOFS = "proofs.ndjson"
_ROW_GROUP = 20_000  # rows of one row group of Parquet


class Item(Struct, frozen=True, kw_only=True):
    """A record on its way into an export. `body` are the log's exact bytes; `record` may be made pseudonymous."""

    position: int
    sequence: int
    leaf: str
    body: bytes
    record: Record
    path: tuple[bytes, ...]


class Written(Struct, frozen=True, kw_only=True):
    """A file of an export, as the manifest lists it; `sha256` in hex."""

    name: str
    sha256: str
    rows: int


class _Sheet(Protocol):
    """One file, to which records are added."""

    def add(self, items: Sequence[Item]) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """A file of lines."""

    def __init__(self, path: Path) -> None:
        self._file = create(path)

    def line(self, item: Item) -> bytes:
        raise NotImplementedError

    def add(self, items: Sequence[Item]) -> None:
        self._file.writelines(self.line(item) + b"\n" for item in items)

    def close(self) -> None:
        synced(self._file)


class _Records(_Lines):
    """The records' exact bytes."""

    def line(self, item: Item) -> bytes:
        return item.body


class _Renamed(_Lines):
    """Pseudonymous records, each with its place and the leaf hash of the record in the log."""

    def line(self, item: Item) -> bytes:
        return f'{{"position":{item.position},"leaf":"{item.leaf}","record":'.encode() + canonical(item.record) + b"}"


class _Proofs(_Lines):
    """The inclusion proof of each record."""

    def line(self, item: Item) -> bytes:
        proof = {"id": item.record.id, "position": item.position, "leaf": item.leaf}
        return msgspec.json.encode(proof | {"path": [one.hex() for one in item.path]})


class _Fhir(_Lines):
    """AuditEvents, one a line, as FHIR's bulk data has them."""

    def __init__(self, path: Path, release: Release, redaction: Redaction) -> None:
        super().__init__(path)
        self._release = release
        self._pseudonymous = redaction == "pseudonymous"

    def line(self, item: Item) -> bytes:
        place = Place(position=item.position, leaf=item.leaf)
        event = audit_event(item.record, place, release=self._release, pseudonymous=self._pseudonymous)
        return msgspec.json.encode(event)


class _Dicom(_Lines):
    """Audit messages of DICOM, one a line."""

    def line(self, item: Item) -> bytes:
        place = Place(position=item.position, leaf=item.leaf)
        return audit_message(audit_event(item.record, place)).encode()


def _row(item: Item) -> dict[str, Cell]:
    return flat(item.record, position=item.position, sequence=item.sequence, leaf=item.leaf)


class _Csv:
    """A table with a header, in UTF-8 with the mark that spreadsheets look for, and no cell that is a formula."""

    def __init__(self, path: Path) -> None:
        self._raw = create(path)
        self._raw.write("\N{ZERO WIDTH NO-BREAK SPACE}".encode())
        self._writer = csv.writer(self, lineterminator="\r\n")
        self._writer.writerow(COLUMNS)

    def write(self, text: str) -> int:
        return self._raw.write(text.encode())

    def add(self, items: Sequence[Item]) -> None:
        self._writer.writerows([csv_cell(cell) for cell in _row(item).values()] for item in items)

    def close(self) -> None:
        synced(self._raw)


class _Parquet:
    """A table in Parquet, with a row group for each 20,000 rows."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds: Mapping[str, Any] = {
            "text": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
        }
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
        self._table = pa.Table
        self._file = create(path)
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._rows: list[dict[str, Cell]] = []

    def add(self, items: Sequence[Item]) -> None:
        self._rows += [_row(item) for item in items]
        if len(self._rows) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()
        synced(self._file)


_NAMES: Mapping[Format, str] = MappingProxyType(
    {
        "csv": "decisions.csv",
        "parquet": "decisions.parquet",
        "fhir": "auditevents.ndjson",
        "fhir-r5": "auditevents-r5.ndjson",
        "dicom": "auditmessages.log",
        "ndjson": "pseudonymous.ndjson",
    }
)


def _open(folder: Path, kind: Format, redaction: Redaction) -> _Sheet:
    path = folder / _NAMES[kind]
    match kind:
        case "csv":
            return _Csv(path)
        case "parquet":
            return _Parquet(path)
        case "fhir":
            return _Fhir(path, "R4", redaction)
        case "fhir-r5":
            return _Fhir(path, "R5", redaction)
        case "dicom":
            return _Dicom(path)
        case "ndjson":
            return _Renamed(path)


class Files:
    """The files of one export in `folder`: always the proofs, and the exact records unless it is pseudonymous."""

    def __init__(self, folder: Path, formats: Sequence[Format], redaction: Redaction) -> None:
        self._folder = folder
        self._sheets: dict[str, _Sheet] = {}
        self.rows = 0
        if redaction == "full":
            self._sheets[RECORDS] = _Records(folder / RECORDS)
        self._sheets[PROOFS] = _Proofs(folder / PROOFS)
        for kind in formats:
            if kind != "ndjson" or redaction != "full":
                self._sheets[_NAMES[kind]] = _open(folder, kind, redaction)

    def add(self, items: Sequence[Item]) -> None:
        """Write a chunk of records to every file."""
        for sheet in self._sheets.values():
            sheet.add(items)
        self.rows += len(items)

    def close(self) -> tuple[Written, ...]:
        """Finish every file, and give their digests, of what lies on the disk."""
        for sheet in self._sheets.values():
            sheet.close()
        return tuple(Written(name=name, sha256=sha256(self._folder / name), rows=self.rows) for name in self._sheets)

    def abandon(self) -> None:
        """Close every file, whatever happens: the folder goes next."""
        for sheet in self._sheets.values():
            with contextlib.suppress(Exception):  # the first trouble is what is told
                sheet.close()
