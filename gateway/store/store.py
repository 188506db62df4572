"""The store: one database, the log and the keys in it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError
from gateway.records import Digester
from gateway.store import faults
from gateway.store.batches import Batches
from gateway.store.configured import Configured
from gateway.store.engine import LOCK_WAIT, make_engine, normalise, place, writer
from gateway.store.exports import Exports
from gateway.store.files import Files
from gateway.store.grants import Grants
from gateway.store.handing import Handover
from gateway.store.holds import Holds
from gateway.store.insert import AsyncInserter, Inserter, SQLiteInserter
from gateway.store.jobs import Jobs
from gateway.store.kek import KeyRing
from gateway.store.keys import Keys
from gateway.store.log import DecisionLog
from gateway.store.migrate import TROUBLE, upgrade
from gateway.store.office import Office
from gateway.store.own_keys import OwnKeys
from gateway.store.processes import Processes
from gateway.store.retention import Retention
from gateway.store.reviews import Reviews
from gateway.store.sealer import Sealer
from gateway.store.search import Search
from gateway.store.sequencer import Sequencer
from gateway.store.sessions import Sessions
from gateway.store.signer import DerivedKey, KeySource, LogSigner, open_signer
from gateway.store.sinks import Deliveries, Sink
from gateway.store.tables import store_facts
from gateway.store.transactions import Transactions
from gateway.store.tree import Tree
from gateway.store.vault import Vault


class Store:
    """One open database. `decisions` is its log, `keys` its API keys.

    `tree` is the tree over the log, `sequencer` grows it, `signer` signs it, `handover` changes its key, and
    `deliveries` bring copies of its checkpoints elsewhere. `search` finds records; `office` gives them
    to people, and records that it did. `vault` shows sealed content, `holds` are the legal holds over it, `retention`
    erases it, and `grants` are the rights that break-glass lends. `batches` read and write `files`, and are worked off
    by their `jobs`; `processes` are those that work.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        digester: Digester,
        inserter: Inserter,
        signer: LogSigner,
        *,
        lock_wait: float = LOCK_WAIT,
        sinks: tuple[Sink, ...] = (),
        keyring: KeyRing | None = None,
        files_dir: Path | None = None,
    ) -> None:
        self._engine = engine
        self.signer = signer
        self.tree = Tree(engine)
        self.deliveries = Deliveries(engine, self.tree, sinks)
        self.sequencer = Sequencer(engine, signer, lock_wait=lock_wait, grown=self.deliveries.wake)
        self.decisions = DecisionLog(engine, digester, inserter, Sealer(engine, keyring))
        self.handover = Handover(engine, self.decisions, self.sequencer, signer)
        self.vault = Vault(engine, self.decisions, keyring)
        self.holds = Holds(engine, self.decisions)
        self.retention = Retention(engine)
        self.grants = Grants(engine, self.decisions)
        self.keys = Keys(engine, digester, self.decisions.append_event)
        self.search = Search(engine, digester)
        self.office = Office(self.decisions, self.search)
        self.sessions = Sessions(engine, digester)
        self.configured = Configured(engine, self.decisions)
        self.reviews = Reviews(engine, self.decisions, self.sequencer.catch_up)
        self.exports = Exports(
            decisions=self.decisions,
            search=self.search,
            tree=self.tree,
            sequencer=self.sequencer,
            signer=signer,
            digester=digester,
        )
        transactions, keys = Transactions(engine), OwnKeys(keyring)
        self.files = Files(transactions, keys, files_dir)
        self.batches = Batches(transactions, keys, self.decisions.append_event)
        self.jobs = Jobs(transactions, self.batches, self.files)
        self.processes = Processes(transactions)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        secret: bytes,
        lock_wait: float = LOCK_WAIT,
        log_key: KeySource | None = None,
        log_name: str | None = None,
        must_sign: bool = True,
        sinks: tuple[Sink, ...] = (),
        keyring: KeyRing | None = None,
        files_dir: Path | None = None,
    ) -> Store:
        """Open the database at `url` and bring its schema up to date.

        `secret` keys digests and hashes, and must be the same for all who share the database. `lock_wait` is how many
        seconds to wait for another process that writes to the same SQLite file. `log_key` signs the log's checkpoints;
        where none is given it is derived from `secret`. `log_name` is the log's name, fixed at its first start. Unless
        `must_sign` a log opens also where its key is lost. `sinks` get copies of checkpoints. `keyring` holds the keys
        of the vault; without it content is neither sealed nor shown, and there are no batches. `files_dir` is where
        their files lie. Raises ConfigurationError with what to do, never with the password in `url`.
        """
        digester = Digester(secret)
        engine = make_engine(normalise(url), lock_wait=lock_wait)
        try:
            await upgrade(engine)
            await _same_secret(engine, digester)
            signer = await open_signer(engine, log_key or DerivedKey(secret), log_name, strict=must_sign)
        except BaseException:
            await engine.dispose()
            raise
        sqlite = engine.dialect.name == "sqlite"
        inserter = SQLiteInserter(engine.url, lock_wait=lock_wait) if sqlite else AsyncInserter(engine)
        return cls(
            engine,
            digester,
            inserter,
            signer,
            lock_wait=lock_wait,
            sinks=sinks,
            keyring=keyring,
            files_dir=files_dir,
        )

    async def close(self) -> None:
        """Write what waits, then close."""
        await self.keys.close()
        await self.decisions.close()
        await self.sequencer.close()
        await self.deliveries.close()
        await self._engine.dispose()


async def _same_secret(engine: AsyncEngine, digester: Digester) -> None:
    """Refuse a secret other than the one the database was begun with: no digest would compare, no key would work."""
    fact = {"name": "secret", "value": digester.digest("secret", b"")[:32]}
    query = sa.select(store_facts.c.value).where(store_facts.c.name == fact["name"])
    try:
        async with engine.connect() as connection:
            found = await connection.scalar(query)
        if found is None:
            try:
                async with writer(engine).begin() as connection:
                    await connection.execute(sa.insert(store_facts), fact)
            except IntegrityError:  # another process was first
                pass
            async with engine.connect() as connection:
                found = await connection.scalar(query)
    except TROUBLE as exc:
        raise ConfigurationError(f"{place(engine.url)}: {faults.hint(exc)}") from None
    if found != fact["value"]:
        raise ConfigurationError(
            f"{place(engine.url)}: this database was begun with another secret; give that one as GATEWAY_SECRET, or as "
            "`secret.key` in the data folder"
        )
