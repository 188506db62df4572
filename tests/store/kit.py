"""What the tests of the store share: real databases, samples, and processes that can be killed."""

import asyncio
import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.store import migrate
from gateway.store.engine import normalise

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.samples import outcomes  # noqa: E402 - found by the line above

SECRET = bytes(range(32))
SERVER = os.environ.get("GATEWAY_TEST_POSTGRES_URL", "postgresql://127.0.0.1:5432/test")
_templates: dict[str, str] = {}
CHILD = Path(__file__).with_name("child.py")

__all__ = ["CHILD", "ROOT", "SECRET", "SERVER", "outcomes", "postgres_database", "run_child", "start_child"]


async def server_do(*statements: str) -> None:
    """Run statements on the test server, outside a transaction."""
    engine = create_async_engine(normalise(SERVER), isolation_level="AUTOCOMMIT", connect_args={"timeout": 5})
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(sa.text(statement))
    finally:
        await engine.dispose()


async def _drop(name: str) -> None:
    await server_do(f"DROP DATABASE {name} WITH (FORCE)")


async def _template() -> str:
    """Give the name of a database that holds the schema and nothing else; it is made once, and dropped at the end."""
    if "postgresql" not in _templates:
        name = f"gateway_template_{uuid.uuid4().hex[:16]}"
        await server_do(f"CREATE DATABASE {name}")
        atexit.register(lambda: asyncio.run(_drop(name)))
        await migrate(make_url(SERVER).set(database=name).render_as_string(hide_password=False))
        _templates["postgresql"] = name
    return _templates["postgresql"]


async def fill_sqlite(path: Path) -> None:
    """Copy a database that holds the schema and nothing else to `path`."""
    if "sqlite" not in _templates:
        folder = tempfile.TemporaryDirectory(prefix="gateway-template-")
        atexit.register(folder.cleanup)
        made = f"{folder.name}/log.sqlite3"
        await migrate(f"sqlite:///{made}")
        _templates["sqlite"] = made
    shutil.copy(_templates["sqlite"], path)


@contextlib.asynccontextmanager
async def postgres_database(*, schema: bool = False):
    """Give the URL of a fresh database, empty or with the `schema`, and drop it at the end."""
    name = f"gateway_{uuid.uuid4().hex[:16]}"
    try:
        await server_do(f"CREATE DATABASE {name}" + (f" TEMPLATE {await _template()}" if schema else ""))
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as exc:
        why = f"no PostgreSQL server to test with ({type(exc).__name__}); name one in GATEWAY_TEST_POSTGRES_URL"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    try:
        yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    finally:
        await _drop(name)


def start_child(mode: str, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(CHILD), mode, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )


def run_child(mode: str, *words: str) -> dict:
    process = start_child(mode, *words)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return json.loads(out)
