"""One live answer on its way: nothing leaves before its record, a slow caller is waited for, one that stalls is not."""

import asyncio
import re

import pytest
from test_windowed import CALLER, LONG, Chunks, ended, pipeline

from gateway.bootstrap import answering
from gateway.bootstrap.answering import Answering
from gateway.errors import Unavailable
from gateway.pipeline.windowed import Left
from gateway.plugin import Piece
from gateway.records import NOTHING_SAID
from gateway.store import Logged, Opened, Store, load_keyring
from gateway.testing import request


@pytest.fixture
async def store(tmp_path):
    made = await Store.open(
        f"sqlite:///{tmp_path}/log.sqlite3", secret=bytes(32), keyring=load_keyring(tmp_path), files_dir=tmp_path / "f"
    )
    yield made
    await made.close()


class Failing:
    """The log of a disk that fills up: it takes the opening of a stream, or not even that, and no end of one."""

    def __init__(self, decisions, *, opens):
        self._decisions, self._opens = decisions, opens

    async def open(self, outcome, *, hold_back):
        if not self._opens:
            raise Unavailable("the disk is full")
        return await self._decisions.open(outcome, hold_back=hold_back)

    async def append(self, outcome):
        raise Unavailable("the disk is full")


def asked(model, decisions):
    values = request("What is seen?")
    streamed = type(values)(**{name: getattr(values, name) for name in values.__struct_fields__} | {"stream": True})
    return Answering(pipeline(model), decisions, streamed, CALLER, "/v1/chat/completions", NOTHING_SAID)


def words(text=LONG * 4):
    # slower than a record is written, so that the text does not all leave with the end
    return Chunks([*(Piece(text=t) for t in re.findall(r"\S+\s?", text)), *ended()], pause=0.002)


async def test_text_leaves_after_the_opening_and_the_rest_after_the_decision(store):
    answer = asked(words(), store.decisions)
    running = asyncio.create_task(answer.run())
    first = await answer.first()
    assert isinstance(first, Opened)
    assert (await store.decisions.get(first.id)).record.decision == first.decision
    items = [item async for item in answer.leaving()]
    assert all(isinstance(item, Left) for item in items[:-1])
    logged = items[-1]
    assert logged is await running
    assert logged.outcome.streamed.opened == first.id
    left = "".join(item.text for item in items[:-1])
    assert 0 < len(left) < len(LONG * 4)
    assert logged.outcome.answer.choices[0].text.text == LONG * 4
    assert (await store.decisions.get(logged.id)).record.streamed.ended == "whole"


async def test_a_short_answer_is_one_logged_outcome(store):
    answer = asked(words("No."), store.decisions)
    running = asyncio.create_task(answer.run())
    first = await answer.first()
    assert isinstance(first, Logged)
    assert first is await running


async def test_a_log_that_does_not_take_the_opening_lets_nothing_leave(store):
    answer = asked(words(), Failing(store.decisions, opens=False))
    running = asyncio.create_task(answer.run())
    with pytest.raises(Unavailable):
        await answer.first()
    with pytest.raises(Unavailable):
        await running
    assert await store.decisions.count() == 0


async def test_a_log_that_does_not_take_the_end_keeps_the_rest_back(store):
    answer = asked(words(), Failing(store.decisions, opens=True))
    running = asyncio.create_task(answer.run())
    assert isinstance(await answer.first(), Opened)
    items = []

    async def take():
        async for item in answer.leaving():
            items.append(item.text)  # noqa: PERF401 - what came before the exception counts

    with pytest.raises(Unavailable):
        await take()
    with pytest.raises(Unavailable):
        await running
    left = "".join(items)
    assert (LONG * 4).startswith(left)
    assert len(left) < len(LONG * 4)


async def test_a_caller_that_takes_nothing_is_gone_after_a_while(store, monkeypatch):
    monkeypatch.setattr(answering, "STALLED", 0.05)
    monkeypatch.setattr(answering, "QUEUED", 2)
    answer = asked(words(LONG * 20), store.decisions)
    logged = await asyncio.wait_for(answer.run(), 30)
    assert answer.gone.told
    assert logged.outcome.streamed.ended == "caller-gone"
    assert len(logged.outcome.answer.choices[0].text.text) < len(LONG * 20)
