"""The tree over the log, what finds records, sealed content, reviews, sessions; and what a key may do.

A downgrade loses what the log does not hold: checkpoints, and sealed content. It is refused where there is any.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.tables import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_KEYS = (
    ("expires_at", Instant()),
    ("last_used_at", Instant()),
    ("scopes", sa.JSON()),
    ("person", sa.String(200)),
    ("application", sa.String(64)),
    ("old_hash", sa.LargeBinary(32)),
    ("old_until", Instant()),
    ("per_minute", sa.Integer()),
    ("per_day", sa.Integer()),
)

_NEW = (
    "entries",
    "entry_blocks",
    "facets",
    "facet_days",
    "entry_subjects",
    "tree_tiles",
    "tree_state",
    "checkpoints",
    "checkpoint_sinks",
    "log_keys",
    "vault",
    "review_states",
    "console_sessions",
)


def upgrade() -> None:
    """Make the tables, and the columns of keys."""
    for name, kind in _KEYS:
        op.add_column("api_keys", sa.Column(name, kind, nullable=True))
    op.create_table(
        "entries",
        sa.Column("position", _Sequence, primary_key=True, autoincrement=False),
        sa.Column("sequence", _Sequence, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("facet", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(200), nullable=True),
        sa.Column("patient", sa.String(64), nullable=True),
        sa.Column("study", sa.String(64), nullable=True),
        sa.Column("risk", sa.Float(), nullable=True),
    )
    op.create_index("uq_entries_sequence", "entries", ["sequence"], unique=True)
    op.create_index("uq_entries_id", "entries", ["id"], unique=True)
    op.create_index("ix_entries_facet_position", "entries", ["facet", "position"])
    op.create_index("ix_entries_at", "entries", ["at", "facet", "position"])
    op.create_index("ix_entries_person", "entries", ["person", "facet", "position"])
    op.create_index("ix_entries_patient", "entries", ["patient", "position"])
    op.create_index("ix_entries_study", "entries", ["study", "position"])
    op.create_index("ix_entries_risk", "entries", ["risk", "facet", "position"])
    op.create_table(
        "entry_blocks",
        sa.Column("block", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("earliest", Instant(), nullable=False),
        sa.Column("latest", Instant(), nullable=False),
    )
    op.create_table(
        "facets",
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
        sa.Column("total", _Sequence, nullable=False),
        sa.Column("oldest", _Sequence, nullable=False),
        sa.Column("newest", _Sequence, nullable=False),
    )
    op.create_index("uq_facets_digest", "facets", ["digest"], unique=True)
    op.create_table(
        "facet_days",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("facet", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "entry_subjects",
        sa.Column("subject", sa.String(64), primary_key=True),
        sa.Column("position", _Sequence, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tree_tiles",
        sa.Column("level", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("tile", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "tree_state",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("size", _Sequence, nullable=False),
        sa.Column("low", _Sequence, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", _Sequence, primary_key=True, autoincrement=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
    )
    op.create_table(
        "checkpoint_sinks",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("size", _Sequence, nullable=False),
        sa.Column("at", Instant(), nullable=True),
        sa.Column("trouble", sa.String(200), nullable=True),
    )
    op.create_table(
        "log_keys",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("vkey", sa.String(400), nullable=False),
        sa.Column("size", _Sequence, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
    )
    op.create_table(
        "vault",
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
    )
    kept = sa.text("erasure IS NULL")
    op.create_index("ix_vault_until", "vault", ["until", "id"], sqlite_where=kept, postgresql_where=kept)
    op.create_index("ix_vault_kek", "vault", ["kek", "id"])
    op.create_index("ix_vault_department_at", "vault", ["department", "at"])
    op.create_index("ix_vault_patient", "vault", ["patient"])
    op.create_table(
        "review_states",
        sa.Column("decision", sa.String(64), primary_key=True),
        sa.Column("position", _Sequence, nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("due_by", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("assignee", sa.String(200), nullable=True),
        sa.Column("verdict", sa.String(16), nullable=True),
        sa.Column("judged_by", sa.String(200), nullable=True),
        sa.Column("judged_at", Instant(), nullable=True),
        sa.Column("confirms", sa.Boolean(), nullable=True),
    )
    op.create_index("ix_review_states_state", "review_states", ["state", "department", "position"])
    op.create_table(
        "console_sessions",
        sa.Column("id", sa.LargeBinary(32), primary_key=True),
        sa.Column("caller", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
    )
    events = sa.text("kind <> 'decision.v1'")
    op.create_index(
        "ix_decision_log_events", "decision_log", ["kind", "at"], sqlite_where=events, postgresql_where=events
    )
    op.execute("INSERT INTO tree_state (id, size, low) VALUES (1, 0, 0)")


def downgrade() -> None:
    """Take the tables and columns away; refused where a checkpoint was signed or content is sealed."""
    kept = "SELECT EXISTS (SELECT 1 FROM checkpoints) OR EXISTS (SELECT 1 FROM vault)"
    if op.get_bind().execute(sa.text(kept)).scalar():
        raise RuntimeError("the database holds signed checkpoints or sealed content; going back would destroy them")
    op.drop_index("ix_decision_log_events", "decision_log")
    for name in reversed(_NEW):
        op.drop_table(name)
    for name, _ in reversed(_KEYS):
        op.drop_column("api_keys", name)
