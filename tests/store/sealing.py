"""What the tests of sealed content share: outcomes whose policy keeps it, callers, and what lies in the database."""

import contextlib
import datetime as dt
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from store.kit import SECRET, outcomes

from gateway.policy.model import ContentSpec, Duration
from gateway.records import Caller, Context
from gateway.store import Store, load_keyring
from gateway.store.engine import make_engine, normalise, writer
from gateway.store.tables import metadata

OFFICER = Caller(key="0fficer00001", department="radiology", roles=("officer",), person="ada")
OTHER = Caller(key="0fficer00002", department="radiology", roles=("officer",), person="grace")
ELSEWHERE = Caller(key="0fficer00003", department="pathology", roles=("officer",))
CLINICIAN = Caller(key="c1inician001", department="radiology", roles=("caller",), person="mary")
DAY = dt.timedelta(days=1)


def keeping(outcome, seconds=3600.0):
    """Give `outcome` under a policy that keeps its content sealed."""
    span = None if seconds is None else Duration(seconds=seconds)
    policy = msgspec.structs.replace(outcome.policy.policy, content=ContentSpec(keep="sealed", for_=span))
    return msgspec.structs.replace(outcome, policy=msgspec.structs.replace(outcome.policy, policy=policy))


def about(outcome, patient, department=None):
    """Give `outcome` with the number of a patient, and of a department."""
    outcome = msgspec.structs.replace(outcome, context=Context(patient=patient))
    if department is None:
        return outcome
    policy = msgspec.structs.replace(outcome.policy.policy, department=department)
    return msgspec.structs.replace(outcome, policy=msgspec.structs.replace(outcome.policy, policy=policy))


def sealed(prompt="What is this?", answer="A fracture.", **more):
    """Make an answered outcome whose content is kept."""
    seconds = more.pop("seconds", 3600.0)
    return keeping(outcomes.released(prompt, answer, **more), seconds)


@contextlib.asynccontextmanager
async def opened(url, folder, **keys):
    """Open a store whose keys of the vault lie in `folder`."""
    store = await Store.open(url, secret=SECRET, keyring=load_keyring(Path(folder), **keys))
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def raw(url):
    """Open the database beside the store, to change what no store would."""
    engine = make_engine(normalise(url))
    try:
        async with writer(engine).begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def cells(url):
    """Give every value in every table, as bytes, by table and column."""
    found = {}
    async with raw(url) as connection:
        for table in metadata.sorted_tables:
            rows = (await connection.execute(sa.select(table))).all()
            for column in table.columns:
                for row in rows:
                    value = getattr(row, column.name)
                    data = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    found.setdefault((table.name, column.name), []).append(data)
    return found


def files(url):
    """Give the bytes of the database's files; none for a server."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return []
    path = Path(parsed.database)
    return [each.read_bytes() for each in path.parent.glob(path.name + "*")]
