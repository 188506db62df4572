"""A filter as SQL: what it asks of `facets` (alias f) and what is left to ask of `entries` (alias e).

SQL is written out here, and not put together by SQLAlchemy, because the order of joins and the index are the whole
matter: SQLite has no statistics, and takes `CROSS JOIN` and `INDEXED BY` as an order. Values are always bound.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from gateway.store.filters import ABSENT, COUNTED, EVERY, Filter
from gateway.store.search_traits import band_of
from gateway.store.tables import Instant

Bind = sa.BindParameter[Any]


class Where(Struct, frozen=True):
    """Conditions joined by AND, empty where there are none, and the values they bind."""

    terms: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()

    def __add__(self, other: Where) -> Where:
        """Join two."""
        return Where((*self.terms, *other.terms), (*self.binds, *other.binds))

    def __bool__(self) -> bool:
        """Tell whether there is any condition."""
        return bool(self.terms)

    @property
    def sql(self) -> str:
        """Give the conditions, each after an AND."""
        return "".join(f" AND {term}" for term in self.terms)


def several(name: str, values: tuple[Any, ...]) -> Bind:
    """Bind a list of values."""
    return sa.bindparam(name, list(values), expanding=True)


def of_facets(filter_: Filter) -> Where:
    """Give what is asked of the combinations."""
    where = Where()
    for name in COUNTED:
        values = filter_.values(name)
        if not values or (name == "kind" and EVERY in values):
            continue
        given: tuple[Any, ...] = tuple(value for value in values if value != ABSENT)
        if name == "revision":
            given = tuple(map(int, given))
        terms = [f"f.{name} IN :f_{name}"] if given else []
        if ABSENT in values:
            terms.append(f"f.{name} IS NULL")
        where += Where((f"({' OR '.join(terms)})",), (several(f"f_{name}", given),) if given else ())
    if filter_.min_risk is not None:
        where += Where(("f.band >= :f_band",), (sa.bindparam("f_band", band_of(filter_.min_risk)),))
    return where


def of_times(filter_: Filter) -> Where:
    """Give what is asked of a record's time."""
    where = Where()
    if filter_.since is not None:
        where += Where(("e.at >= :since",), (sa.bindparam("since", filter_.since, type_=Instant()),))
    if filter_.until is not None:
        where += Where(("e.at < :until",), (sa.bindparam("until", filter_.until, type_=Instant()),))
    return where


def of_listed(filter_: Filter, *, but: str | None = None) -> Where:
    """Give what is asked of the fields with very many values, apart from the one that leads."""
    where = Where()
    for name in ("person", "patient", "study"):
        values = filter_.values(name)
        if values and name != but:
            where += Where((f"e.{name} IN :e_{name}",), (several(f"e_{name}", values),))
    if filter_.subject and but != "subject":
        term = "e.position IN (SELECT s.position FROM entry_subjects s WHERE s.subject IN :e_subject)"
        where += Where((term,), (several("e_subject", filter_.subject),))
    if not filter_.whole_bands and but != "risk":
        where += Where(("e.risk >= :min_risk",), (sa.bindparam("min_risk", filter_.min_risk),))
    return where


def run(connection: Connection, sql: str, where: Where = Where(), **values: Any) -> list[Any]:  # noqa: B008 - frozen
    """Run a statement that reads."""
    return list(connection.execute(sa.text(sql).bindparams(*where.binds), values).all())


def indexed(connection: Connection, index: str) -> str:
    """Name the index to be used, to a database that takes such an order."""
    return f"INDEXED BY {index}" if connection.dialect.name == "sqlite" else ""
