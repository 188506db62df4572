"""The bound on requests at once: first come first served, full at once, and nothing lost when callers give up."""

import asyncio
import random

import pytest

from gateway_openai.errors import UpstreamBusy
from gateway_openai.places import Places

PATIENCE = 10


class Held:
    """Requests that hold a place until they are let go."""

    def __init__(self, places):
        self._places = places
        self.begun = []
        self.go = {}

    def start(self, name, until=None):
        async def run():
            async with self._places.place(until):
                self.begun.append(name)
                await self.go.setdefault(name, asyncio.Event()).wait()

        return asyncio.create_task(run())


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_bound_holds_the_queue_is_in_order_and_what_is_over_it_is_refused_at_once():
    held = Held(Places(2, 2))
    tasks = [held.start(n) for n in range(5)]
    await turn()
    assert held.begun == [0, 1]
    with pytest.raises(UpstreamBusy) as caught:
        await tasks[4]
    assert caught.value.status == 429
    held.go[1].set()
    await turn()
    held.go[0].set()
    await turn()
    assert held.begun == [0, 1, 2, 3]
    for name in (2, 3):
        held.go[name].set()
    await asyncio.wait_for(asyncio.gather(*tasks[:4]), PATIENCE)


async def test_who_gives_up_in_the_queue_takes_no_place():
    held = Held(Places(1, 2))
    tasks = [held.start(n) for n in range(3)]
    await turn()
    tasks[1].cancel()
    await turn()
    tasks.append(held.start(3))
    held.go[0].set()
    await turn()
    held.go[2].set()
    await turn()
    assert held.begun == [0, 2, 3]
    held.go[3].set()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)


async def test_a_place_that_is_given_to_one_who_gives_up_in_the_same_moment_passes_on():
    held = Held(Places(1, 2))
    tasks = [held.start(n) for n in range(3)]
    await turn()
    held.go[0].set()
    await asyncio.sleep(0)  # the holder ends and hands its place over; the one it is given to has not run yet
    tasks[1].cancel()
    await turn()
    assert held.begun == [0, 2]
    held.go[2].set()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)


async def test_no_place_in_time_is_busy():
    held = Held(Places(1, 5))
    first = held.start(0)
    await turn()
    with pytest.raises(UpstreamBusy):
        await asyncio.wait_for(held.start(1, asyncio.get_running_loop().time() + 0.05), PATIENCE)
    held.go[0].set()
    await first


@pytest.mark.parametrize("seed", range(5))
async def test_no_place_is_lost_or_made_whatever_callers_do(seed):
    chance = random.Random(seed)
    places, running, most = Places(3, 50), [], 0

    async def run():
        nonlocal most
        async with places.place(None):
            running.append(None)
            most = max(most, len(running))
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                running.pop()

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(run()))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
    assert most == 3
    held = Held(places)
    last = [held.start(n) for n in range(4)]
    await turn()
    assert held.begun == [0, 1, 2], "every place is free again, and there are no more"
    for name in range(4):
        held.go.setdefault(name, asyncio.Event()).set()
    await asyncio.wait_for(asyncio.gather(*last), PATIENCE)
