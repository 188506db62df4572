"""The decision log with its triggers, and the API keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.tables import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SQLITE = (
    """
    CREATE TRIGGER decision_log_no_update BEFORE UPDATE ON decision_log
    BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END
    """,
    """
    CREATE TRIGGER decision_log_no_delete BEFORE DELETE ON decision_log
    BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END
    """,
    # INSERT OR REPLACE deletes without a word to the trigger above, unless a connection asks for recursive triggers.
    """
    CREATE TRIGGER decision_log_no_replace BEFORE INSERT ON decision_log
    WHEN EXISTS (SELECT 1 FROM decision_log WHERE id = NEW.id OR sequence = NEW.sequence)
    BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END
    """,
)

_POSTGRES = (
    """
    CREATE FUNCTION decision_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the decision log is append-only' USING ERRCODE = 'restrict_violation';
    END
    $$
    """,
    # For each statement and not for each row, so that one that meets no row is refused too.
    """
    CREATE TRIGGER decision_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decision_log
    FOR EACH STATEMENT EXECUTE FUNCTION decision_log_refuse()
    """,
    # Also in sessions that switch ordinary triggers off (session_replication_role).
    "ALTER TABLE decision_log ENABLE ALWAYS TRIGGER decision_log_append_only",
)


def upgrade() -> None:
    """Make the tables and the triggers."""
    op.create_table(
        "decision_log",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("sequence > 0", name="ck_decision_log_sequence"),
        sa.CheckConstraint("length(leaf) = 32", name="ck_decision_log_leaf"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_decision_log_id", "decision_log", ["id"], unique=True)
    op.create_index("ix_decision_log_department_sequence", "decision_log", ["department", "sequence"])
    op.create_index("ix_decision_log_at", "decision_log", ["at"])
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRES:
        op.execute(statement)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("department", sa.String(64), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("revoked_at", Instant(), nullable=True),
    )
    op.create_table(
        "store_facts",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )


def downgrade() -> None:
    """Take everything away again; refused where the log holds a record."""
    if op.get_bind().execute(sa.text("SELECT EXISTS (SELECT 1 FROM decision_log)")).scalar():
        raise RuntimeError("the decision log holds records; going back would destroy them")
    op.drop_table("store_facts")
    op.drop_table("api_keys")
    op.drop_table("decision_log")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION decision_log_refuse()")
