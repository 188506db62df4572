"""What a verification says, and what one row shows of itself."""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from gateway.store.verify_rows import problem_of_columns
from gateway.store.writer import leaf_of

log = logging.getLogger("gateway.store")


class CheckReport(Struct, frozen=True, kw_only=True):
    """What a verification found.

    `records` counts those that hold, up to the first problem; `waiting` are those of them that have no place in the
    tree yet, which no signature covers. `problem` names the first bad record, with its number in `sequence`, or what
    else is wrong (then `sequence` is None); `more` are the problems after it. `size` is the tree's. `gaps` counts
    numbers that no record has: on PostgreSQL a transaction that was rolled back leaves one, on SQLite none is ever
    left, so one is a problem there. `remarks` are no problems, and to be known.
    """

    records: int
    problem: str | None = None
    sequence: int | None = None
    gaps: int = 0
    waiting: int = 0
    size: int = 0
    checkpoints: int = 0
    copies: int = 0
    more: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether everything is as it was written and signed."""
        return self.problem is None


def problem_of(row: sa.Row[Any]) -> str | None:
    """Tell what is wrong with one row, None where nothing is."""
    if isinstance(row.body, str) or isinstance(row.leaf, str):  # SQLite keeps in a column whatever it is given
        return "its bytes are text"
    body = bytes(row.body)
    if leaf_of(body) != bytes(row.leaf):
        return "its bytes do not have its leaf hash"
    return problem_of_columns(row.id, row.kind, row.department, row.outcome, row.at, body)
