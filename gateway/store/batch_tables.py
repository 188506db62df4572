"""The tables of batches; see `gateway.store.tables`."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.tables import Instant, Sequence, metadata

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("filename", sa.String(255), nullable=False),
    sa.Column("bytes", sa.BigInteger(), nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("expires_at", Instant(), nullable=True),
    sa.Column("kek", sa.String(64), nullable=False),
    sa.Column("wrapped", sa.LargeBinary(), nullable=False),
    sa.Index("ix_files_department", "department", "created_at", "id"),
    sa.Index("ix_files_expires_at", "expires_at"),
)
"""Files of batches. Their bytes lie encrypted in the folder of files, under their id; `wrapped` is the key, wrapped."""

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("caller", sa.LargeBinary(), nullable=False),
    sa.Column("said", sa.LargeBinary(), nullable=False),
    sa.Column("endpoint", sa.String(64), nullable=False),
    sa.Column("completion_window", sa.String(8), nullable=False),
    sa.Column("metadata", sa.JSON(), nullable=True),
    sa.Column("priority", sa.Integer(), nullable=False),
    sa.Column("options", sa.JSON(), nullable=False),
    sa.Column("idempotency_key", sa.String(200), nullable=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("paused", sa.Boolean(), nullable=False),
    sa.Column("total", sa.Integer(), nullable=True),
    sa.Column("input_file", sa.String(64), nullable=False),
    sa.Column("output_file", sa.String(64), nullable=True),
    sa.Column("error_file", sa.String(64), nullable=True),
    sa.Column("report_file", sa.String(64), nullable=True),
    sa.Column("summary", sa.JSON(), nullable=True),
    sa.Column("errors", sa.JSON(), nullable=True),
    sa.Column("kek", sa.String(64), nullable=False),
    sa.Column("wrapped", sa.LargeBinary(), nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("expires_at", Instant(), nullable=False),
    sa.Column("in_progress_at", Instant(), nullable=True),
    sa.Column("finalizing_at", Instant(), nullable=True),
    sa.Column("completed_at", Instant(), nullable=True),
    sa.Column("failed_at", Instant(), nullable=True),
    sa.Column("expired_at", Instant(), nullable=True),
    sa.Column("cancelling_at", Instant(), nullable=True),
    sa.Column("cancelled_at", Instant(), nullable=True),
    sa.Index("ix_batches_department", "department", "created_at", "id"),
    sa.Index("ix_batches_status", "status", "expires_at"),
    sa.Index("uq_batches_idempotency", "department", "owner", "idempotency_key", unique=True),
)
"""Batches, in OpenAI's states. `caller` and `said` (what was said of all its lines) are msgspec JSON.

`wrapped` is the key that encrypts the answers of its lines until they are in its files.
"""

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", Sequence, sa.Identity(), primary_key=True),
    sa.Column("batch", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("department", sa.String(64), nullable=False),
    sa.Column("priority", sa.Integer(), nullable=False),
    sa.Column("first", sa.Integer(), nullable=False),
    sa.Column("count", sa.Integer(), nullable=False),
    sa.Column("start", sa.BigInteger(), nullable=False),
    sa.Column("size", sa.BigInteger(), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("available_at", Instant(), nullable=False),
    sa.Column("owner", sa.String(64), nullable=True),
    sa.Column("lease_until", Instant(), nullable=True),
    sa.Index("ix_jobs_state", "state", "department", "priority", "id"),
    sa.Index("ix_jobs_batch", "batch", "state"),
    sqlite_autoincrement=True,
)
"""What is to be done of batches. A worker (`owner`) holds a job until `lease_until`, which its heartbeats move.

A job of kind ``lines`` covers `count` lines from line `first`, which lie in `size` bytes from byte `start` of the file.
"""

batch_lines = sa.Table(
    "batch_lines",
    metadata,
    sa.Column("batch", sa.String(64), primary_key=True),
    sa.Column("line", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("ok", sa.Boolean(), nullable=False),
    sa.Column("decision", sa.String(64), nullable=True),
    sa.Column("reason", sa.String(200), nullable=True),
    sa.Column("tries", sa.Integer(), nullable=False),
    sa.Column("sealed", sa.LargeBinary(), nullable=True),
    sa.Index("ix_batch_lines_outcome", "batch", "outcome", "ok", "reason"),
    sqlite_with_rowid=False,
)
"""What each line of a batch came to: one row, in the transaction of its record. Its key is the idempotency key.

`sealed` is the line of the output or error file, until that is written.
"""

processes = sa.Table(
    "processes",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("seen_at", Instant(), nullable=False),
    sa.Column("load", sa.JSON(), nullable=False),
)
"""The processes that work, by their heartbeats; `load` counts the live requests of each department in flight."""
