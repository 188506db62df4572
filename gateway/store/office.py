"""The office: the one door to what the log holds, for web, command line and console alike.

What holds: whoever looks must have the permission; another department's record is told as none at all; and the look is
recorded, durably, before anything is given. Where it can not be recorded, nothing is given. A look that found nothing
is recorded as well, so that neither the log nor the time it takes tells a record of another department from none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from gateway.errors import InvalidRequest, NotFound
from gateway.records import AccessV1, Caller, OpenedV1, Record, covers, require
from gateway.records.events import REASON_LONGEST
from gateway.store.filters import Filter
from gateway.store.log import DecisionLog, Stored
from gateway.store.search import Found, Page, Search
from gateway.store.search_counts import Tally, Value
from gateway.store.writer import columns_of

_ID_LONGEST = 64


def reason(why: str | None) -> str | None:
    """Give the reason that was given for a look, None where it is empty.

    Raises InvalidRequest where it is longer than `REASON_LONGEST` or not printable.
    """
    why = (why or "").strip()
    if len(why) > REASON_LONGEST or not why.isprintable():
        raise InvalidRequest(f"a reason has at most {REASON_LONGEST} printable characters", param="why")
    return why or None


class Office:
    """The office of one database."""

    def __init__(self, decisions: DecisionLog, search: Search) -> None:
        self._decisions = decisions
        self._search = search

    async def read(
        self, id: str, caller: Caller, endpoint: str, why: str | None = None, *, opened: bool = False
    ) -> Stored | None:
        """Give a record, None where there is none that `caller` may see.

        `opened` gives, of a decision that has no record, the one that its stream was opened. Raises NotPermitted,
        LogDamaged, and Unavailable where the look can not be recorded.
        """
        require(caller, "read")
        _check_id(id)
        given = reason(why)
        stored = _seen(await self._decisions.get(id), caller)
        if stored is None and opened:
            stored = _seen(await self._search.opening(id), caller)
        named = (id,) if stored is None or stored.id == id else (id, stored.id)
        await self._record(caller, endpoint, "read", named, given, rows=int(stored is not None))
        return stored

    async def closed(self, record: Record) -> bool | None:
        """Tell whether the decision of a stream that was opened has a record; None of another kind of record."""
        if not isinstance(record, OpenedV1):
            return None
        return await self._decisions.get(record.decision) is not None

    async def about(self, id: str, caller: Caller, endpoint: str, why: str | None = None) -> tuple[Found, ...]:
        """Give the records that speak of a decision, oldest first.

        Those who looked may be of any department: it is the decision's own department that may know of it. So a record
        may name decisions of others too; what is shown of it must leave them out. Raises NotFound where there is no
        such record that `caller` may see, and as `read` does.
        """
        require(caller, "read")
        _check_id(id)
        given = reason(why)
        seen = await self._sees(id, caller)
        rows = await self._search.about(id) if seen else ()
        await self._record(caller, endpoint, "about", (id,), given, rows=len(rows))
        if not seen:
            raise NotFound("there is no such record for this key; a search names those that there are")
        return rows

    async def search(
        self,
        filter_: Filter,
        caller: Caller,
        endpoint: str,
        *,
        limit: int,
        cursor: str | None = None,
        why: str | None = None,
        counted: bool = False,
        facets: Sequence[str] = (),
    ) -> Page:
        """Give a page of the records that meet the filter and that `caller` may see.

        `counted` counts what the whole filter finds, by the values of the fields `facets`. Raises InvalidRequest for a
        cursor or field that is none, and as `read` does.
        """
        require(caller, "search")
        given = reason(why)
        narrow = await self.narrowed(filter_, caller)
        page = await self._search.page(narrow, limit=limit, cursor=cursor)
        if counted or facets:
            page = msgspec.structs.replace(page, tally=await self._search.tally(narrow, facets))
        ids = tuple(row.stored.id for row in page.rows)
        await self._record(caller, endpoint, "search", ids, given, rows=len(ids), filter_=filter_)
        return page

    async def facets(
        self, filter_: Filter, caller: Caller, endpoint: str, fields: Sequence[str], why: str | None = None
    ) -> Mapping[str, tuple[tuple[Value, int], ...]]:
        """Give for each of `fields` its values with how many records have them; see `tally`."""
        return (await self.tally(filter_, caller, endpoint, fields, why)).facets

    async def tally(
        self, filter_: Filter, caller: Caller, endpoint: str, fields: Sequence[str] = (), why: str | None = None
    ) -> Tally:
        """Count the records that meet the filter and that `caller` may see, by the values of `fields`.

        Raises as `search` does.
        """
        require(caller, "search")
        given = reason(why)
        found = await self._search.tally(await self.narrowed(filter_, caller), fields)
        await self._record(caller, endpoint, "count", (), given, rows=0, filter_=filter_)
        return found

    async def narrowed(self, filter_: Filter, caller: Caller) -> Filter:
        """Narrow a filter to what `caller` may see.

        Who has looked at a decision is for the decision's department to know, whatever department looked; so a search
        for what speaks of decisions is narrowed to decisions that `caller` may see, and not by department.
        """
        if not filter_.subject:
            return filter_.within(caller)
        seen = tuple([one for one in filter_.subject if await self._sees(one, caller)])
        return msgspec.structs.replace(filter_, subject=seen, nothing=filter_.nothing or not seen)

    async def _sees(self, id: str, caller: Caller) -> bool:
        department = await self._search.department(id)
        return department is not None and covers(caller, department)

    async def _record(
        self,
        caller: Caller,
        endpoint: str,
        action: str,
        decisions: tuple[str, ...],
        why: str | None,
        *,
        rows: int,
        filter_: Filter | None = None,
    ) -> None:
        await self._decisions.append_event(
            AccessV1.of(
                caller=caller,
                endpoint=endpoint,
                decisions=decisions,
                at=dt.datetime.now(dt.UTC),
                action=action,
                why=why,
                filter=None if filter_ is None else filter_.text(),
                rows=rows,
            )
        )


def _seen(stored: Stored | None, caller: Caller) -> Stored | None:
    if stored is None or not covers(caller, str(columns_of(stored.record)["department"])):
        return None
    return stored


def _check_id(id: str) -> None:
    if not id or len(id) > _ID_LONGEST or not id.isprintable():
        raise InvalidRequest(f"an id has 1 to {_ID_LONGEST} printable characters", param="id")
