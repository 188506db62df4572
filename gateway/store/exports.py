"""Exports: records taken away in a folder or zip file that verifies without the gateway.

What holds: an export is recorded before it is given; it has the records that were counted then, oldest first, with
their inclusion proofs under one signed checkpoint; its manifest is signed; it appears whole or not at all. Memory does
not grow with the number of records.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.errors import InvalidRequest, LogDamaged
from gateway.records import AccessV1, Caller, DecisionV1, Digester, require
from gateway.records.events import REASON_LONGEST
from gateway.records.pseudonyms import Pseudonyms
from gateway.stages import in_thread
from gateway.store.export_files import FORMATS, REDACTIONS, Files, Format, Item, Redaction, Written
from gateway.store.export_place import draft_of, publish, sha256, target_of, write
from gateway.store.filters import Filter
from gateway.store.log import DecisionLog
from gateway.store.search import Found, Search
from gateway.store.sequencer import Sequencer
from gateway.store.signer import LogSigner
from gateway.store.tree import Checkpoint, Tree

FORMAT = "medvlm-gateway-export/1"
_NAMED = 200  # ids of decisions that the record of an export names, at most
_CHUNK = 1000  # records in memory at once
_VERIFIER = Path(__file__).with_name("verify_export.py")

Progress = Callable[[int, int], object]
"""Told how many records are written, and how many there are."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be exported, in which formats, how much of it, and why."""

    filter: Filter
    formats: tuple[Format, ...]
    redaction: Redaction
    why: str


class Made(Struct, frozen=True, kw_only=True):
    """An export that was made: where it lies, how many records it has, and the id of the record of it."""

    path: Path
    rows: int
    access: str


def wanted(filter: Filter, formats: Sequence[str], redaction: str, why: str) -> Wanted:
    """Check what is asked for; a filter without a kind, an action or a subject means decisions.

    Raises InvalidRequest naming the field.
    """
    if not (filter.kinds or filter.action or filter.subject):
        filter = replace(filter, kinds=("decision.v1",))
    for one in formats:
        if one not in FORMATS:
            raise InvalidRequest(
                f"`formats`: expected some of {', '.join(FORMATS)}, got `{_shown(one)}`", param="formats"
            )
    if redaction not in REDACTIONS:
        given = _shown(redaction)
        raise InvalidRequest(f"`redaction`: expected one of {', '.join(REDACTIONS)}, got `{given}`", param="redaction")
    reason = why.strip()
    if not reason or len(reason) > REASON_LONGEST or not reason.isprintable():
        raise InvalidRequest(
            f"`why`: say why the records are taken away, in 1 to {REASON_LONGEST} printable characters", param="why"
        )
    kinds = tuple(one for one in FORMATS if one in formats) or ("ndjson",)
    return Wanted(filter=filter, formats=kinds, redaction=redaction, why=reason)


def _shown(value: str) -> str:
    return "".join(c if c.isprintable() and c != "`" else "�" for c in value[:40])


class Exports:
    """Makes exports of one store."""

    def __init__(
        self,
        *,
        decisions: DecisionLog,
        search: Search,
        tree: Tree,
        sequencer: Sequencer,
        signer: LogSigner,
        digester: Digester,
    ) -> None:
        self._decisions = decisions
        self._search = search
        self._tree = tree
        self._sequencer = sequencer
        self._signer = signer
        self._pseudonyms = Pseudonyms(digester)

    async def make(
        self,
        out: Path,
        what: Wanted,
        caller: Caller,
        endpoint: str,
        *,
        most: int | None = None,
        progress: Progress | None = None,
    ) -> Made:
        """Make an export at `out`: a folder, or a zip file where its name ends in ``.zip``.

        It is recorded first. `most` bounds the number of records. Raises NotPermitted; InvalidRequest where `out` is
        there already or there are more records than `most`; and Unavailable where the log can not be read or written,
        or the disk can not take the export: nothing is left at `out` then.
        """
        require(caller, "export")
        target = target_of(out)
        narrowed = what.filter.within(caller)
        with draft_of(target) as folder:
            await self._sequencer.catch_up()
            rows = await self._search.count(narrowed)
            if most is not None and rows > most:
                raise InvalidRequest(
                    f"more than {most} records meet the filter; narrow it, or use `gateway log export`"
                )
            access = await self._record(what, narrowed, caller, endpoint, rows)
            await self._sequencer.catch_up()
            head = await self._head()
            written = await self._write(folder, what, narrowed, rows, head, progress)
            await self._sign(folder, what, narrowed, access, head, written)
            await in_thread(lambda: publish(folder, target))
        return Made(path=target, rows=rows, access=access.id)

    async def _record(self, what: Wanted, narrowed: Filter, caller: Caller, endpoint: str, rows: int) -> AccessV1:
        access = AccessV1.of(
            caller=caller,
            endpoint=endpoint,
            decisions=await self._ids(narrowed) if 0 < rows <= _NAMED else (),
            at=dt.datetime.now(dt.UTC),
            action="export",
            why=what.why,
            filter=narrowed.text(),
            rows=rows,
        )
        await self._decisions.append_event(access)
        return access

    async def _ids(self, narrowed: Filter) -> tuple[str, ...]:
        page = await self._search.page(narrowed, limit=_NAMED)
        return tuple(found.stored.id for found in page.rows if isinstance(found.stored.record, DecisionV1))

    async def _head(self) -> Checkpoint:
        head = await self._tree.checkpoint()
        if head is None:
            raise LogDamaged("the log has no checkpoint; run `gateway log verify`")
        return head

    async def _write(
        self, folder: Path, what: Wanted, narrowed: Filter, rows: int, head: Checkpoint, progress: Progress | None
    ) -> tuple[Written, ...]:
        """Write the first `rows` records that meet the filter: those that were there when they were counted."""
        files = Files(folder, what.formats, what.redaction)
        try:
            if rows:  # without, no query
                async for chunk in self._search.stream(narrowed, chunk=_CHUNK):
                    await self._add(files, chunk[: rows - files.rows], what.redaction, head)
                    if progress is not None:
                        progress(files.rows, rows)
                    if files.rows >= rows:
                        break
            written = await in_thread(files.close)
        except BaseException:
            files.abandon()
            raise
        if files.rows < rows:
            raise LogDamaged(f"{rows} records were counted and {files.rows} were found; run `gateway log verify`")
        return written

    async def _add(self, files: Files, chunk: Sequence[Found], redaction: Redaction, head: Checkpoint) -> None:
        paths = await self._tree.proofs([found.position for found in chunk], head.size)

        def work() -> None:
            files.add(
                [
                    Item(
                        position=found.position,
                        sequence=found.stored.sequence,
                        leaf=found.stored.leaf,
                        body=found.stored.bytes,
                        record=found.stored.record
                        if redaction == "full"
                        else self._pseudonyms.apply(found.stored.record),
                        path=path,
                    )
                    for found, path in zip(chunk, paths, strict=True)
                ]
            )

        await in_thread(work)

    async def _sign(
        self,
        folder: Path,
        what: Wanted,
        narrowed: Filter,
        access: AccessV1,
        head: Checkpoint,
        written: Sequence[Written],
    ) -> None:
        caller = access.caller
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "made_at": access.at.isoformat().replace("+00:00", "Z"),
            "by": {"key": caller.key, "person": caller.person, "department": caller.department},
            "why": what.why,
            "access": access.id,
            "filter": narrowed.text(),
            "count": access.rows,
            "redaction": what.redaction,
            "checkpoint": head.note,
            "keys": [{"vkey": key.vkey, "note": key.note} for key in await self._tree.keys()],
            "files": [{"name": one.name, "sha256": one.sha256, "rows": one.rows} for one in written],
        }
        body = json.dumps(manifest, ensure_ascii=False, indent=2).encode() + b"\n"
        note = self._signer.sign(f"medvlm-gateway export\n{hashlib.sha256(body).hexdigest()}\n")
        verifier = _VERIFIER.read_bytes()

        def work() -> None:
            write(folder / "verify_export.py", verifier)
            write(folder / "manifest.note", note.encode())
            write(folder / "manifest.json", body)

        await in_thread(work)
        if sha256(folder / "manifest.json") != hashlib.sha256(body).hexdigest():
            raise LogDamaged("the disk does not give back what was written; look at the system's log")
