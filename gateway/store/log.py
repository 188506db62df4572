"""The decision log: appended to and read, never changed.

What holds: `append` returns only after its record is committed to the disk; where it raises, no answer may leave. The
bytes stored are the record's canonical bytes, and their leaf hash stands beside them. There is no way here to update or
delete, and triggers in the database refuse both.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import LogDamaged, Unavailable, describe
from gateway.records import (
    Digester,
    Event,
    Outcome,
    Pseudonymised,
    Record,
    new_id,
    opened_of,
    parse,
    pseudonym,
    record_of,
)
from gateway.stages import in_thread
from gateway.store import check, faults
from gateway.store.check import CheckReport
from gateway.store.engine import writer
from gateway.store.insert import Inserter, LineRow, Row
from gateway.store.logged import Logged, Opened, logged, opened
from gateway.store.migrate import TROUBLE
from gateway.store.sealer import Sealed, Sealer
from gateway.store.tables import decision_log, store_facts
from gateway.store.verify import VerifyOptions, verify
from gateway.store.verify_index import index_problem_of
from gateway.store.writer import GroupWriter, row_of

_HEAVY = 64 * 1024  # bytes of images, above which digests are computed beside the event loop


class Stored(Struct, frozen=True, kw_only=True):
    """A record as it lies in the log. `bytes` are its exact bytes, `leaf` their leaf hash in hex."""

    sequence: int
    id: str
    leaf: str
    bytes: bytes
    record: Record


class DecisionLog:
    """The log of one database."""

    def __init__(
        self, engine: AsyncEngine, digester: Digester, inserter: Inserter, sealer: Sealer | None = None
    ) -> None:
        self._engine = engine
        self._digester = digester
        self._sealer = sealer or Sealer(engine, None)
        self._writer = GroupWriter(engine, inserter)

    async def append(self, outcome: Outcome) -> Logged:
        """Record `outcome`, and seal its content where its policy keeps it; both are on the disk when this returns.

        Raises Unavailable where that can not be done: no answer may leave then.
        """
        row = await self._made(outcome)
        sequence = await self._writer.put(row)
        return logged(id=row.id, sequence=sequence, leaf=row.leaf.hex(), outcome=outcome)

    async def open(self, outcome: Outcome, *, hold_back: int) -> Opened:
        """Record that a stream of the admitted `outcome` is opened; no text of it may leave before this returns.

        `hold_back` is how many characters are held back at the end of the growing text. `append` records the decision
        itself once the stream is closed. Raises Unavailable as `append`.
        """
        try:
            record = opened_of(
                outcome, self._digester, id=new_id("opn"), at=dt.datetime.now(dt.UTC), hold_back=hold_back
            )
            row = row_of(record)
        except Exception as exc:  # noqa: BLE001 - whatever it is, no text may leave without its record
            check.log.error("a stream can not be made into a record: %s", describe(exc))
            raise Unavailable(
                "the stream can not be recorded; nothing was answered; tell the gateway's operator"
            ) from None
        sequence = await self._writer.put(row)
        return opened(id=row.id, decision=record.decision, sequence=sequence, leaf=row.leaf.hex(), outcome=outcome)

    async def append_line(self, outcomes: Sequence[Outcome], line: LineRow) -> tuple[Logged, ...]:
        """Record the outcomes of one line of a batch together with its answer: all of it, or nothing.

        Raises Unavailable as `append`, and LineTaken where the line is answered already.
        """
        rows = [await self._made(outcome) for outcome in outcomes]
        rows[-1] = replace(rows[-1], line=line)
        sequences = await self._writer.put_all(tuple(rows))
        return tuple(
            logged(id=row.id, sequence=sequence, leaf=row.leaf.hex(), outcome=outcome)
            for row, sequence, outcome in zip(rows, sequences, outcomes, strict=True)
        )

    async def append_event_line(self, event: Event, line: LineRow) -> None:
        """Record `event` together with the line of a batch that it answers. Raises as `append_line`."""
        await self._writer.put(replace(row_of(event), line=line))

    async def _made(self, outcome: Outcome) -> Row:
        try:
            sealed = await self._sealer.seal(outcome)
            if sum(len(image.data) for image in outcome.request.images()) > _HEAVY:
                return await in_thread(self._row, outcome, sealed)
            return self._row(outcome, sealed)
        except Unavailable as exc:
            check.log.error("a decision can not be sealed: %s", describe(exc))
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, no answer may leave without its record
            check.log.error("a decision can not be made into a record: %s", describe(exc))
            raise Unavailable(
                "the decision can not be recorded; nothing was answered; tell the gateway's operator"
            ) from None

    async def append_event(self, event: Event) -> None:
        """Record what is done with the log, before it takes effect. Raises Unavailable where it can not be."""
        try:
            row = row_of(event)
        except (ValueError, TypeError):
            raise Unavailable("what was asked can not be recorded; nothing was shown or done") from None
        await self._writer.put(row)

    def pseudonym(self, kind: Pseudonymised, value: str) -> str:
        """Give the pseudonym that stands in records for the number of a patient, study or user; 64 hex characters."""
        return pseudonym(self._digester, kind, value)

    async def get(self, id: str) -> Stored | None:
        """Give the record with this id, None where there is none. Raises LogDamaged where it was changed."""
        rows = await self._read(sa.select(decision_log).where(decision_log.c.id == id))
        return stored_of(rows[0]) if rows else None

    async def several(self, ids: Collection[str]) -> dict[str, Stored | LogDamaged]:
        """Give the records that there are of `ids`, some hundreds at the most; where one was changed, the exception."""
        found: dict[str, Stored | LogDamaged] = {}
        for row in await self._read(sa.select(decision_log).where(decision_log.c.id.in_(ids))):
            try:
                found[row.id] = stored_of(row)
            except LogDamaged as exc:
                found[row.id] = exc
        return found

    def keyed(self, domain: Literal["prompt", "answer"], data: bytes) -> str:
        """Give the digest by which a record stands for these bytes; see `gateway.records.content`."""
        return self._digester.digest(domain, data)

    async def recent(
        self, limit: int, department: str | None = None, *, kind: str = "decision.v1"
    ) -> tuple[Stored, ...]:
        """Give the latest records of a kind, newest first."""
        query = sa.select(decision_log).where(decision_log.c.kind == kind)
        if department is not None:
            query = query.where(decision_log.c.department == department)
        rows = await self._read(query.order_by(decision_log.c.sequence.desc()).limit(limit))
        return tuple(map(stored_of, rows))

    async def count(self) -> int:
        """Count the records of every kind."""
        rows = await self._read(sa.select(sa.func.count()).select_from(decision_log))
        return int(rows[0][0])

    async def check(
        self, progress: Callable[[int], object] | None = None, *, wanted: VerifyOptions | None = None
    ) -> CheckReport:
        """Verify the whole log (see `gateway.store.verify`); `progress` is told the number of records after each chunk.

        A deep verification also derives the index from the records again (see `gateway.store.verify_index`), and counts
        each record in the tree twice. Raises Unavailable where the database can not be read.
        """
        report = await verify(self._engine, wanted, progress)
        if wanted is None or not wanted.deep or not report.ok:
            return report
        try:
            problem = await index_problem_of(self._engine, report.size, progress or (lambda _: None))
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None
        return report if problem is None else replace(report, problem=problem)

    async def healthy(self) -> None:
        """Raise Unavailable where the log could not take a record now.

        After a failed append this writes, so that readiness comes back by itself once the trouble is over.
        """
        fact = {"name": "probe", "value": "ok"}
        try:
            if not self._writer.failing:
                await self._read(sa.select(store_facts.c.value).limit(1))
                return
            async with writer(self._engine).begin() as connection:
                gone = sa.delete(store_facts).where(store_facts.c.name == fact["name"])
                await connection.execute(gone)
                await connection.execute(sa.insert(store_facts), fact)
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be written; {faults.hint(exc)}") from None
        self._writer.failing = False

    async def close(self) -> None:
        """Write what waits, then take no more."""
        await self._writer.close()

    def _row(self, outcome: Outcome, sealed: Sealed | None) -> Row:
        if sealed is None:
            return row_of(record_of(outcome, self._digester))
        record = record_of(outcome, self._digester, sealed.kept)
        return replace(row_of(record), sealed=sealed.row(record))

    async def _read(self, query: sa.Select[Any]) -> list[Any]:
        try:
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())
        except TROUBLE as exc:
            raise Unavailable(f"the decision log can not be read; {faults.hint(exc)}") from None


def stored_of(row: sa.Row[Any]) -> Stored:
    """Read a row of `decision_log`. Raises LogDamaged where it is not as it was written."""
    problem = check.problem_of(row)
    if problem is not None:
        raise LogDamaged(f"record {row.sequence} of the decision log is damaged: {problem}; run `gateway log verify`")
    body, leaf = bytes(row.body), bytes(row.leaf)
    return Stored(sequence=row.sequence, id=row.id, leaf=leaf.hex(), bytes=body, record=parse(body))
