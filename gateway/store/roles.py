"""Rights on PostgreSQL: what the application's role may do, so that it can not rewrite the log even without triggers.

The role that owns the tables migrates; the application signs in as another, which may read and append, and may change
only what is derived or is meant to change. Triggers bind the owner by mistake; rights bind the application by force.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError
from gateway.store import faults
from gateway.store.engine import make_engine, normalise, place, writer
from gateway.store.migrate import TROUBLE, upgrade
from gateway.store.tables import metadata

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

RIGHTS = {
    "decision_log": "SELECT, INSERT",
    "api_keys": "SELECT, INSERT, UPDATE",
    "store_facts": "SELECT, INSERT, DELETE",
    "entries": "SELECT, INSERT",
    "entry_blocks": "SELECT, INSERT, UPDATE",
    "facets": "SELECT, INSERT, UPDATE",
    "facet_days": "SELECT, INSERT, UPDATE",
    "entry_subjects": "SELECT, INSERT",
    "tree_tiles": "SELECT, INSERT, UPDATE",
    "tree_state": "SELECT, UPDATE",
    "checkpoints": "SELECT, INSERT",
    "checkpoint_sinks": "SELECT, INSERT, UPDATE",
    "log_keys": "SELECT, INSERT",
    "vault": "SELECT, INSERT, UPDATE (kek, wrapped, sealed, erasure)",
    "review_states": "SELECT, INSERT, UPDATE",
    "console_sessions": "SELECT, INSERT, UPDATE, DELETE",
    "files": "SELECT, INSERT, UPDATE, DELETE",
    "batches": "SELECT, INSERT, UPDATE, DELETE",
    "jobs": "SELECT, INSERT, UPDATE, DELETE",
    "batch_lines": "SELECT, INSERT, UPDATE (sealed), DELETE",
    "processes": "SELECT, INSERT, UPDATE, DELETE",
}
"""What the application needs of each table, and all that it gets. To build the index again takes the owner."""


def _statements(role: str) -> list[str]:
    missing = set(metadata.tables) - set(RIGHTS)
    if missing:  # a table without a line here would be one that the application can not use
        raise ConfigurationError(f"no rights are written down for the tables {', '.join(sorted(missing))}")
    made = [f'GRANT USAGE ON SCHEMA public TO "{role}"', f'GRANT SELECT ON alembic_version TO "{role}"']
    for table, rights in RIGHTS.items():
        made.append(f'REVOKE ALL ON "{table}" FROM PUBLIC, "{role}"')
        made.append(f'GRANT {rights} ON "{table}" TO "{role}"')
    made.append(f'GRANT USAGE ON SEQUENCE facets_id_seq TO "{role}"')  # the one that is no identity column
    return made


async def migrate_for(url: str, role: str) -> None:
    """Bring the schema of a PostgreSQL database up to date, and give `role` the application's rights and no others.

    `url` is that of the tables' owner, who must be another than `role`. Raises ConfigurationError where the role is
    missing, owns the tables or rules the server, and where the database is no PostgreSQL.
    """
    parsed = normalise(url)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            "--app-role: only PostgreSQL has roles; on SQLite, guard the file by its owner and mode"
        )
    if not _NAME.fullmatch(role):
        raise ConfigurationError(f"--app-role: `{role}` is no name of a role; use lowercase letters, digits and `_`")
    engine = make_engine(parsed)
    try:
        await upgrade(engine)
        await _grant(engine, role)
    except TROUBLE as exc:
        raise ConfigurationError(f"{place(engine.url)}: {faults.hint(exc)}") from None
    finally:
        await engine.dispose()


async def _grant(engine: AsyncEngine, role: str) -> None:
    async with writer(engine).begin() as connection:
        query = sa.text(
            "SELECT rolsuper, pg_has_role(:role, current_user, 'MEMBER') FROM pg_roles WHERE rolname = :role"
        )
        found = (await connection.execute(query, {"role": role})).first()
        if found is None:
            raise ConfigurationError(f"--app-role: there is no role `{role}`; make it with `CREATE ROLE {role} LOGIN`")
        if found[0] or found[1]:
            raise ConfigurationError(
                f"--app-role: `{role}` is a superuser or the tables' owner, whom no right binds; choose another role"
            )
        for statement in _statements(role):
            await connection.execute(sa.text(statement))
