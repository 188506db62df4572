"""The embedded model tells how likely an answer is: beside its own choice, from a kept prefix, and stopped in time."""

import asyncio
import logging
import math

import pytest

from gateway.plugin import Demonstration, Prompt, Request, ScoringBackend, Text, Turn
from gateway_transformers import Config, build

MARKER = "zebra-4711-marker"


@pytest.fixture(scope="module")
def backend():
    made = build(Config(queue=4, batch=4))
    yield made
    made.worker.close()


def prompt(text, shown=0, tools=None):
    turn = Turn(role="user", parts=(Text(id="messages[0].content", text=text),))
    demonstrations = tuple(
        Demonstration(
            id=str(n), pair=str(n), modality="ct", question=f"Is {n} more than 2?" + " Think." * 20,
            answer="Yes" if n > 2 else "No", refuses=False,
        )
        for n in range(shown)
    )  # fmt: skip
    request = Request(id="d", department="d", model="m", turns=(turn,), tools=tools)
    return Prompt(request=request, demonstrations=demonstrations)


async def test_the_likelier_answer_is_the_one_that_would_be_written(backend):
    assert isinstance(backend, ScoringBackend)
    asked = prompt("What is the capital of France? Answer in one word.")
    paris, rome, never = await backend.score(asked, ("The capital of France is Paris", "Rome", "zqxj vvkk"))
    assert 0 > paris > rome > never > -math.inf
    assert paris > math.log(0.05)


async def test_scores_are_repeatable_alone_and_among_others_and_from_a_kept_prefix(backend):
    asked = [prompt(f"Is {n} more than 2?", shown=6) for n in range(6)]
    before = backend.worker.prefixes.reused
    alone = [await backend.score(one, ("Yes", "No")) for one in asked]
    assert backend.worker.prefixes.reused - before > 500
    together = await asyncio.gather(*(backend.score(one, ("Yes", "No")) for one in asked[:4]))
    assert together == alone[:4]


@pytest.mark.parametrize(
    ("asked", "answers", "named"),
    [
        (prompt("x " * 9000 + MARKER), ("Yes",), "context"),
        (prompt(MARKER, tools=Text(id="tools", text="[{}]")), ("Yes",), "`tools`"),
        (prompt(MARKER), (), "empty"),
        (prompt(MARKER), ("Yes", ""), "empty"),
    ],
)
async def test_what_can_not_be_scored_is_refused_without_quoting_it(backend, asked, answers, named):
    with pytest.raises(ValueError, match=named) as caught:
        await backend.score(asked, answers)
    assert MARKER not in str(caught.value)


async def test_a_caller_who_gives_up_stops_the_reading(backend, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    task = asyncio.create_task(backend.score(prompt(f"{MARKER} " * 600), ("Yes", "No")))
    async with asyncio.timeout(20):
        while not backend.worker.active():  # noqa: ASYNC110  the worker's thread sets no asyncio event
            await asyncio.sleep(0.001)
        task.cancel()
        while backend.worker.active():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert (await backend.score(prompt("Say yes."), ("Yes", "No")))[0] < 0
    out, err = capfd.readouterr()
    assert MARKER not in caplog.text + out + err
