"""Fields with very many values: which of them leads to the records of a filter, and by which index."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection

from gateway.store.filters import Filter
from gateway.store.search_where import Where, indexed, of_facets, of_listed, of_times, run

_RARE = 50_000  # records over a risk that are sooner sorted than looked for

MINE = (
    "WITH RECURSIVE mine(facet) AS ("
    "SELECT (SELECT min(facet) FROM entries WHERE person = :value)"
    " UNION ALL SELECT (SELECT min(e.facet) FROM entries e WHERE e.person = :value AND e.facet > mine.facet)"
    " FROM mine WHERE mine.facet IS NOT NULL) "
)
"""The combinations of a person's records, by one probe of the index for each (a loose index scan)."""


class Source(Struct, frozen=True):
    """Where rows of `entries` come from: what stands before SELECT and after FROM, and the conditions."""

    before: str
    tables: str
    where: Where


def leading(connection: Connection, filter_: Filter) -> str | None:
    """Choose the field by whose index records are found; None where combinations find them sooner."""
    for name in ("subject", "patient", "study", "person"):
        if filter_.values(name):
            return name
    if not filter_.whole_bands:
        sql = "SELECT count(*) AS number FROM (SELECT 1 FROM entries e WHERE e.risk >= :risk LIMIT :most) t"
        number = run(connection, sql, risk=filter_.min_risk, most=_RARE + 1)[0].number
        return "risk" if number <= min(_RARE, _total(connection, filter_)) else None
    return None


def leading_to_count(connection: Connection, filter_: Filter) -> str | None:
    """Choose the field by whose index records are counted up to a bound.

    Where many combinations' records are over a risk, its index has them side by side, and theirs are far apart.
    """
    found = leading(connection, filter_)
    return "risk" if found is None and _total(connection, filter_) > _RARE else found


def _total(connection: Connection, filter_: Filter) -> int:
    """Count the records of the combinations that meet a filter."""
    asked = of_facets(filter_)
    sql = f"SELECT coalesce(sum(f.total), 0) AS total FROM facets f WHERE 1 = 1{asked.sql}"  # noqa: S608 - no value of a caller is in it
    return int(run(connection, sql, asked)[0].total)


def lead_values(filter_: Filter, lead: str | None) -> tuple[str | float | None, ...]:
    """Give the values of the field that leads; one None where none does."""
    return (filter_.min_risk,) if lead in ("risk", None) else filter_.values(lead)


def source_of(connection: Connection, filter_: Filter, lead: str | None) -> Source:
    """Give the source of the records that meet the filter between the positions `low` and `high`.

    The value of the field that leads is to be bound as `value`. Columns are those of `entries` (alias e).
    """
    asked = of_facets(filter_)
    where = Where(("e.position >= :low", "e.position < :high")) + of_times(filter_) + of_listed(filter_, but=lead)
    if lead is None:
        where += asked + Where(("e.facet = f.id",))
        tables = f"facets f CROSS JOIN entries e {indexed(connection, 'ix_entries_facet_position')}"
        return Source("", tables if asked else "entries e CROSS JOIN facets f", where)
    if lead == "person":
        where += asked + Where(("f.id = mine.facet", "e.person = :value", "e.facet = mine.facet"))
        tables = f"mine CROSS JOIN facets f CROSS JOIN entries e {indexed(connection, 'ix_entries_person')}"
        return Source(MINE, tables, where)
    joined = " CROSS JOIN facets f" if asked else ""
    if asked:
        where += asked + Where(("f.id = e.facet",))
    if lead == "subject":
        where += Where(("s.subject = :value", "e.position = s.position"))
        return Source("", f"entry_subjects s CROSS JOIN entries e{joined}", where)
    where += Where((f"e.{lead} {'>=' if lead == 'risk' else '='} :value",))
    return Source("", f"entries e {indexed(connection, f'ix_entries_{lead}')}{joined}", where)
