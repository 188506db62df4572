"""Processes for the tests of the store: run as a script, with a mode and its words; prints one JSON object."""

import asyncio
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from bench.samples import outcomes
from gateway.errors import Unavailable
from gateway.store import Store, migrate

SECRET = bytes(range(32))


async def append(url: str, number: int) -> dict:
    store = await Store.open(url, secret=SECRET)
    done = await asyncio.gather(*(store.decisions.append(outcomes.refused()) for _ in range(number)))
    await store.close()
    return {"ids": [logged.id for logged in done], "sequences": [logged.sequence for logged in done]}


async def forever(url: str, out: int) -> None:
    """Append from eight tasks and write each id once its append has returned."""
    store = await Store.open(url, secret=SECRET)

    async def one() -> None:
        while True:
            logged = await store.decisions.append(outcomes.released())
            os.write(out, f"{logged.id}\n".encode())

    await asyncio.gather(*(one() for _ in range(8)))


def kill(url: str, times: int) -> dict:
    """Fork a process that appends, kill it at a random moment; give what it said was written, for each time."""
    import aiosqlite, asyncpg, alembic.command, sqlalchemy.dialects.postgresql.asyncpg  # noqa: E401, F401, I001 - once, not in each fork

    rounds = []
    for _ in range(times):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            asyncio.run(forever(url, write))
        os.close(write)
        with os.fdopen(read) as said:
            ids = [said.readline().strip()]  # it is open and at work
            time.sleep(random.uniform(0.0, 0.2))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            ids += [line.strip() for line in said if line.endswith("\n")]
        rounds.append(ids)
    return {"rounds": rounds}


async def disk_full(url: str) -> dict:
    """Append until the files may not grow any more, then let them grow again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = await Store.open(url, secret=SECRET)
    before = [(await store.decisions.append(outcomes.refused())).id for _ in range(3)]
    path = url.removeprefix("sqlite:///")
    size = max(os.stat(name).st_size for name in (path, path + "-wal"))  # noqa: PTH116 - nothing else runs here
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    results = await asyncio.gather(
        *(store.decisions.append(outcomes.released()) for _ in range(60)), return_exceptions=True
    )
    others = [type(r).__name__ for r in results if isinstance(r, BaseException) and not isinstance(r, Unavailable)]
    messages = {r.message for r in results if isinstance(r, Unavailable)}
    try:
        await store.decisions.healthy()
        health = "ready"
    except Unavailable:
        health = "unavailable"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if hard < 0 else hard, hard))
    await store.decisions.healthy()
    after = [(await store.decisions.append(outcomes.refused())).id for _ in range(3)]
    report = await store.decisions.check()
    count = await store.decisions.count()
    await store.close()
    written = [r.id for r in results if not isinstance(r, BaseException)]
    return {
        "before": before, "written": written, "after": after, "messages": sorted(messages), "others": others,
        "health": health, "problem": report.problem, "count": count,
    }  # fmt: skip


async def erase(url: str, folder: str, *ids: str) -> None:
    """Erase the content of decisions one after the other; print each erasure's id."""
    from store.sealing import OFFICER

    from gateway.store import load_keyring

    store = await Store.open(url, secret=SECRET, keyring=load_keyring(Path(folder)))
    for id_ in ids:
        done = await store.retention.erase([id_], OFFICER, "one after the other")
        if done.erasure is not None:
            os.write(1, f"{done.erasure}\n".encode())
    os.write(1, b"done\n")


def main(mode: str, url: str, *words: str) -> None:
    if mode == "append":
        result = asyncio.run(append(url, int(words[0])))
    elif mode == "migrate":
        asyncio.run(migrate(url))
        result = {}
    elif mode == "erase":
        result = asyncio.run(erase(url, *words))
    elif mode == "kill":
        result = kill(url, int(words[0]))
    else:
        result = asyncio.run(disk_full(url))
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
