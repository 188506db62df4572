"""Compares the vault with the records: sealed content that a record speaks of is there, unchanged, or was erased."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway.records import DecisionV1, ErasureV1, parse
from gateway.store.tables import vault
from gateway.store.verify_rows import instant
from gateway.store.verify_source import Reader

_CHUNK = 500  # rows in one query
_DIGESTS = """
SELECT v.id, v.digest, v.sealed IS NOT NULL, v.erasure, x.body, d.sequence, d.body FROM vault v
LEFT JOIN decision_log d ON d.id = v.id LEFT JOIN decision_log x ON x.id = v.erasure
WHERE v.id > ? ORDER BY v.id LIMIT ?
"""
_MISSING = """
SELECT d.sequence, d.id, d.body FROM decision_log d LEFT JOIN vault v ON v.id = d.id
WHERE v.id IS NULL AND d.sequence > ? ORDER BY d.sequence LIMIT ?
"""


class _Sealed(Struct):
    sha256: str


class _Head(Struct):
    sealed: _Sealed | None = None


_head = msgspec.json.Decoder(_Head).decode


def vault_problem_of(reader: Reader, due: int, *, deep: bool) -> str | None:
    """Tell the first problem between vault and records, None where there is none.

    `due` is how many records say that they have sealed content. With `deep` the sealed bytes themselves are read.
    """
    last, there = "", 0
    while rows := reader.rows(_DIGESTS, last, _CHUNK):
        for id_, digest, sealed, erasure, erased, sequence, body in rows:
            if body is None:
                return f"the vault holds content of `{id_}`, of which the log has no record"
            kept = _head(bytes(body)).sealed
            if kept is None or bytes(digest).hex() != kept.sha256:
                return f"record {sequence} (id `{id_}`): its sealed content has another digest than the record says"
            if erasure is not None and (sealed or not _erases(erased, id_)):
                return f"record {sequence} (id `{id_}`): its content is marked as erased, and no record or key says so"
            if erasure is None and not sealed:
                return f"record {sequence} (id `{id_}`): its sealed content is gone without an erasure"
            if deep:
                problem = _deep(reader, id_, bytes(body))
                if problem is not None:
                    return f"record {sequence} (id `{id_}`): {problem}"
            there += 1
        last = rows[-1][0]
    return _missing(reader) if there < due else None


def _erases(body: bytes | None, id_: str) -> bool:
    """Tell whether a record says that the content of `id_` was erased; its bytes are verified as every record's are."""
    if body is None:
        return False
    record = parse(bytes(body))
    return isinstance(record, ErasureV1) and id_ in record.decisions


def _deep(reader: Reader, id_: str, body: bytes) -> str | None:
    from gateway.store.vault import (
        vault_problem,
    )  # imported here: the vault stands on the log, which is verified by this

    names = [column.name for column in vault.columns]
    found = reader.rows(f"SELECT {', '.join(names)} FROM vault WHERE id = ?", id_)  # noqa: S608 - the table's own columns
    record = parse(body)
    if not found or not isinstance(record, DecisionV1):
        return "its sealed content is missing from the vault"
    values: dict[str, Any] = dict(zip(names, found[0], strict=True))
    for name in ("at", "until"):
        if isinstance(values[name], str):
            values[name] = instant(values[name])
    return vault_problem(record, _Row(values))


class _Row:
    """Reads a row's values by name, as SQLAlchemy's rows do."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _missing(reader: Reader) -> str | None:
    last = 0
    while rows := reader.rows(_MISSING, last, _CHUNK):
        for sequence, id_, body in rows:
            if b'"sealed":{' in bytes(body):
                return f"record {sequence} (id `{id_}`): its sealed content is missing from the vault"
        last = rows[-1][0]
    return None
