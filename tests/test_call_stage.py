"""Whatever a stage does, a value or a fault comes back, in time."""

import asyncio
import gc
import logging
import time

import pytest

from gateway.pipeline import Fault, call_stage


def _fine(_: object) -> None:
    return None


async def _run(call, deadline: float = 0.2, check=_fine):
    start = time.perf_counter()
    value, ms = await call_stage(call, deadline=deadline, check=check)
    return value, ms, time.perf_counter() - start


async def test_a_good_value_passes() -> None:
    async def good() -> str:
        return "word"

    value, ms, _ = await _run(good)
    assert value == "word" and 0 <= ms < 200


async def test_a_hanging_stage_is_left_behind_even_if_it_ignores_cancellation() -> None:
    async def stubborn() -> None:
        for _ in range(20):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    value, _, seconds = await _run(stubborn, deadline=0.1)
    assert value == Fault(cause="deadline") and seconds < 1


async def test_one_that_blocked_the_loop_is_late_although_it_answered() -> None:
    async def blocks() -> str:
        time.sleep(0.15)  # noqa: ASYNC251 - blocking the event loop is what is tested
        return "late"

    assert (await _run(blocks, deadline=0.05))[0] == Fault(cause="deadline")


@pytest.mark.parametrize(
    ("error", "cause"), [(SystemExit(3), "exited"), (KeyboardInterrupt(), "exited"), (KeyError("x"), "raised:KeyError")]
)
async def test_what_it_raises_is_a_code(error: BaseException, cause: str) -> None:
    async def bad() -> None:
        raise error

    assert (await _run(bad))[0] == Fault(cause=cause)


async def test_a_hostile_type_name_can_not_carry_text() -> None:
    hostile = type("patient Jane Doe\n" * 40, (Exception,), {})

    async def bad() -> None:
        raise hostile

    fault = (await _run(bad))[0]
    assert isinstance(fault, Fault) and len(fault.cause) < 64 and "\n" not in fault.cause and " " not in fault.cause


async def test_not_async_none_nonsense_and_a_check_that_breaks() -> None:
    async def good() -> str:
        return "word"

    def breaks(_: object) -> str | None:
        raise RuntimeError

    assert (await _run(lambda: 5))[0] == Fault(cause="nonsense:not-async")
    assert (await _run(lambda: None))[0] == Fault(cause="nothing")
    assert (await _run(good, check=lambda _: "nonsense:risk"))[0] == Fault(cause="nonsense:risk")
    assert (await _run(good, check=breaks))[0] == Fault(cause="nonsense:type")


async def test_a_stage_that_cancels_itself_is_a_fault() -> None:
    async def cancels() -> None:
        raise asyncio.CancelledError

    assert (await _run(cancels))[0] == Fault(cause="cancelled")


async def test_an_abandoned_task_does_not_log_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    async def late() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("MARKER")

    with caplog.at_level(logging.DEBUG):
        assert (await _run(late, deadline=0.01))[0] == Fault(cause="deadline")
        await asyncio.sleep(0.02)
        gc.collect()
    assert "MARKER" not in caplog.text


async def test_a_cancelled_request_cancels_its_stage() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.set()

    task = asyncio.create_task(call_stage(slow, deadline=5, check=_fine))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 1)


async def test_no_time_left_is_a_deadline() -> None:
    async def good() -> str:
        await asyncio.sleep(0.01)
        return "word"

    assert (await _run(good, deadline=-1))[0] == Fault(cause="deadline")
