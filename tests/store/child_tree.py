"""A process that appends and sequences: `sequence URL N` prints JSON at its end, `for_ever URL` each size."""

import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.samples import outcomes
from gateway.store import Store

SECRET = bytes(range(32))


async def sequence(url: str, number: int) -> dict:
    store = await Store.open(url, secret=SECRET, lock_wait=30.0)
    store.sequencer._batch = 7
    store.sequencer._interval = 0.005
    store.sequencer.start()
    for _ in range(number // 6):
        await asyncio.gather(*(store.decisions.append(outcomes.refused()) for _ in range(6)))
    await store.sequencer.catch_up()
    trouble = store.sequencer.trouble
    await store.close()
    return {"trouble": trouble}


async def for_ever(url: str) -> None:
    store = await Store.open(url, secret=SECRET)
    store.sequencer._batch = 5
    while True:
        await asyncio.gather(*(store.decisions.append(outcomes.refused()) for _ in range(8)))
        os.write(1, f"{await store.sequencer.catch_up()}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "sequence":
        print(json.dumps(asyncio.run(sequence(sys.argv[2], int(sys.argv[3])))))
    else:
        asyncio.run(for_ever(sys.argv[2]))
