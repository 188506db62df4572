"""The tables, as SQLAlchemy sees them; `migrations/` makes them, and a test compares the two."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = sa.MetaData()


class Instant(TypeDecorator[dt.datetime]):
    """A point in time: ``timestamptz`` on PostgreSQL; elsewhere RFC 3339 text in UTC, of fixed width: it sorts."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column's type."""
        kind: TypeEngine[Any] = sa.DateTime(timezone=True) if dialect.name == "postgresql" else sa.String(27)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> object:
        """Write a time that has a zone."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: object, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002 - SQLAlchemy's
        """Read a time, in UTC."""
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
        return value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else None


_Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

decision_log = sa.Table(
    "decision_log",
    metadata,
    sa.Column("sequence", _Sequence, sa.Identity(always=True), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=True),
    sa.Column("at", Instant(), nullable=False),
    sa.Column("leaf", sa.LargeBinary(32), nullable=False),
    sa.Column("body", sa.LargeBinary(), nullable=False),
    sa.CheckConstraint("sequence > 0", name="ck_decision_log_sequence"),
    sa.CheckConstraint("length(leaf) = 32", name="ck_decision_log_leaf"),
    sa.Index("uq_decision_log_id", "id", unique=True),
    sa.Index("ix_decision_log_department_sequence", "department", "sequence"),
    sa.Index("ix_decision_log_at", "at"),
    sqlite_autoincrement=True,
)
"""The log. Its columns beside `body` only help to find; `body` is the record, and `leaf` is SHA-256(0x00 || body)."""

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("roles", sa.JSON(), nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("revoked_at", Instant(), nullable=True),
)
"""API keys; `hash` is a keyed digest, the key itself is nowhere."""

store_facts = sa.Table(
    "store_facts",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)
"""Facts about this database, such as which secret keys its digests."""
