"""The tables, as SQLAlchemy sees them; `migrations/` makes them, and a test compares the two.

Those of batches stand in `gateway.store.batch_tables`.
"""

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


Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""The type of numbers that may pass 2^31."""

EVENTS = "kind <> 'decision.v1'"
"""The condition of the index over what is no decision. A query that repeats it in these words is answered by it."""

decision_log = sa.Table(
    "decision_log",
    metadata,
    sa.Column("sequence", Sequence, sa.Identity(always=True), primary_key=True),
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
    sa.Index("ix_decision_log_events", "kind", "at", sqlite_where=sa.text(EVENTS), postgresql_where=sa.text(EVENTS)),
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
    sa.Column("expires_at", Instant(), nullable=True),
    sa.Column("last_used_at", Instant(), nullable=True),
    sa.Column("scopes", sa.JSON(), nullable=True),
    sa.Column("person", sa.String(200), nullable=True),
    sa.Column("application", sa.String(64), nullable=True),
    sa.Column("old_hash", sa.LargeBinary(32), nullable=True),
    sa.Column("old_until", Instant(), nullable=True),
    sa.Column("per_minute", sa.Integer(), nullable=True),
    sa.Column("per_day", sa.Integer(), nullable=True),
)
"""API keys; `hash` is a keyed digest, the key is nowhere. `old_hash`, of before a rotation, ends at `old_until`."""

store_facts = sa.Table(
    "store_facts",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
)
"""Facts about this database, such as which secret keys its digests."""

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("position", Sequence, primary_key=True, autoincrement=False),
    sa.Column("sequence", Sequence, nullable=False),
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("at", Instant(), nullable=False),
    sa.Column("facet", sa.Integer(), nullable=False),
    sa.Column("person", sa.String(200), nullable=True),
    sa.Column("patient", sa.String(64), nullable=True),
    sa.Column("study", sa.String(64), nullable=True),
    sa.Column("risk", sa.Float(), nullable=True),
    sa.Index("uq_entries_sequence", "sequence", unique=True),
    sa.Index("uq_entries_id", "id", unique=True),
    sa.Index("ix_entries_facet_position", "facet", "position"),
    sa.Index("ix_entries_at", "at", "facet", "position"),
    sa.Index("ix_entries_person", "person", "facet", "position"),
    sa.Index("ix_entries_patient", "patient", "position"),
    sa.Index("ix_entries_study", "study", "position"),
    sa.Index("ix_entries_risk", "risk", "facet", "position"),
)
"""One row for each record in the tree, by the sequencer: its place in the tree (from 0), and how it is found."""

entry_blocks = sa.Table(
    "entry_blocks",
    metadata,
    sa.Column("block", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("earliest", Instant(), nullable=False),
    sa.Column("latest", Instant(), nullable=False),
)
"""Between which times the records of each 4,096 positions lie: records are nearly, not wholly, in time order."""

facets = sa.Table(
    "facets",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=True),
    sa.Column("endpoint", sa.String(64), nullable=True),
    sa.Column("key", sa.String(64), nullable=True),
    sa.Column("application", sa.String(64), nullable=True),
    sa.Column("purpose", sa.String(16), nullable=True),
    sa.Column("model", sa.String(232), nullable=True),
    sa.Column("modality", sa.String(32), nullable=True),
    sa.Column("task", sa.String(64), nullable=True),
    sa.Column("rule", sa.String(96), nullable=True),
    sa.Column("reason", sa.String(96), nullable=True),
    sa.Column("policy", sa.String(64), nullable=True),
    sa.Column("revision", sa.Integer(), nullable=True),
    sa.Column("policy_digest", sa.String(64), nullable=True),
    sa.Column("gateway", sa.String(32), nullable=True),
    sa.Column("action", sa.String(32), nullable=True),
    sa.Column("mode", sa.String(16), nullable=True),
    sa.Column("band", sa.Integer(), nullable=True),
    sa.Column("total", Sequence, nullable=False),
    sa.Column("oldest", Sequence, nullable=False),
    sa.Column("newest", Sequence, nullable=False),
    sa.Index("uq_facets_digest", "digest", unique=True),
)
"""The distinct combinations of what records are filtered by: few, so a filter is answered here first.

`band` is the quarter of 0..1 in which the risk lies; `total` counts the records, whose first and last positions are
`oldest` and `newest`.
"""

facet_days = sa.Table(
    "facet_days",
    metadata,
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("facet", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("count", sa.Integer(), nullable=False),
    sqlite_with_rowid=False,
)
"""How many records of each combination each day (UTC, ``2026-01-31``) and each month (``M2026-01``) has."""

entry_subjects = sa.Table(
    "entry_subjects",
    metadata,
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("position", Sequence, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which records speak of a decision: looks, reviews, holds, erasures. `subject` is the decision's id."""

tree_tiles = sa.Table(
    "tree_tiles",
    metadata,
    sa.Column("level", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("tile", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("hashes", sa.LargeBinary(), nullable=False),
)
"""The hash tree in tiles of at most 256 hashes (C2SP tlog-tiles): level 0 holds leaf hashes, each above its roots."""

tree_state = sa.Table(
    "tree_state",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("size", Sequence, nullable=False),
    sa.Column("low", Sequence, nullable=False),
)
"""One row: how many records the tree holds, and up to which `sequence` no record is waiting."""

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("size", Sequence, primary_key=True, autoincrement=False),
    sa.Column("at", Instant(), nullable=False),
    sa.Column("root", sa.LargeBinary(32), nullable=False),
    sa.Column("note", sa.Text(), nullable=False),
)
"""Signed checkpoints (C2SP tlog-checkpoint in a signed note)."""

checkpoint_sinks = sa.Table(
    "checkpoint_sinks",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("size", Sequence, nullable=False),
    sa.Column("at", Instant(), nullable=True),
    sa.Column("trouble", sa.String(200), nullable=True),
)
"""Up to which size each sink has been given checkpoints."""

log_keys = sa.Table(
    "log_keys",
    metadata,
    sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("vkey", sa.String(400), nullable=False),
    sa.Column("size", Sequence, nullable=False),
    sa.Column("at", Instant(), nullable=False),
    sa.Column("note", sa.Text(), nullable=True),
)
"""The keys that sign checkpoints, from 1; `note` is the statement by which the key before it handed over at `size`."""

KEPT = "erasure IS NULL"
"""The condition of the index over content that is not erased; as with `EVENTS`, a query repeats it in these words."""

vault = sa.Table(
    "vault",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("patient", sa.String(64), nullable=True),
    sa.Column("at", Instant(), nullable=False),
    sa.Column("until", Instant(), nullable=True),
    sa.Column("kek", sa.String(64), nullable=False),
    sa.Column("wrapped", sa.LargeBinary(), nullable=True),
    sa.Column("sealed", sa.LargeBinary(), nullable=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("erasure", sa.String(64), nullable=True),
    sa.Index("ix_vault_until", "until", "id", sqlite_where=sa.text(KEPT), postgresql_where=sa.text(KEPT)),
    sa.Index("ix_vault_kek", "kek", "id"),
    sa.Index("ix_vault_department_at", "department", "at"),
    sa.Index("ix_vault_patient", "patient"),
)
"""Sealed content of decisions, by their ids.

`digest` is the SHA-256 of `sealed`, and stands in the record as well. Once it is erased `erasure` is the id of the
record that says so, `wrapped` (its key) and `sealed` are None, and `kek` is empty.
"""

review_states = sa.Table(
    "review_states",
    metadata,
    sa.Column("decision", sa.String(64), primary_key=True),
    sa.Column("position", Sequence, nullable=False),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("at", Instant(), nullable=False),
    sa.Column("due_by", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("assignee", sa.String(200), nullable=True),
    sa.Column("verdict", sa.String(16), nullable=True),
    sa.Column("judged_by", sa.String(200), nullable=True),
    sa.Column("judged_at", Instant(), nullable=True),
    sa.Column("confirms", sa.Boolean(), nullable=True),
    sa.Index("ix_review_states_state", "state", "department", "position"),
)
"""Which decisions are to be reviewed, and how far that is; derived from the log by the sequencer."""

console_sessions = sa.Table(
    "console_sessions",
    metadata,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("caller", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("expires_at", Instant(), nullable=False),
)
"""Signed-in sessions of the console; `id` is a keyed digest of the cookie, `caller` is msgspec JSON."""
