"""Processes: who works is known by heartbeats, and who has gone is forgotten."""

from store.batching import DAY, now
from store.sealing import raw

from gateway.store.batch_tables import processes


async def test_those_who_beat_are_there(store, batch_url):
    await store.processes.beat("w2", "worker", {})
    await store.processes.beat("w1", "worker", {})
    await store.processes.beat("s1", "web", {"radiology": 2})
    await store.processes.beat("s2", "web", {"radiology": 1, "pathology": 4})
    await store.processes.beat("s1", "web", {"radiology": 5})
    assert await store.processes.live("worker") == ("w1", "w2")
    assert await store.processes.load() == {"radiology": 6, "pathology": 4}
    await store.processes.gone("s2")
    await store.processes.gone("s2")
    assert (await store.processes.live("web"), await store.processes.load()) == (("s1",), {"radiology": 5})
    async with raw(batch_url) as connection:
        await connection.execute(processes.update().where(processes.c.id == "w1").values(seen_at=now() - DAY))
        await connection.execute(processes.update().where(processes.c.id == "s1").values(seen_at=now() - DAY))
    assert (await store.processes.live("worker"), await store.processes.load()) == (("w2",), {})
    assert (await store.processes.sweep(now()), await store.processes.sweep(now())) == (2, 0)
    assert await store.processes.live("worker", within=60) == ("w2",)
