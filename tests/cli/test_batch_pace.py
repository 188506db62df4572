"""The rate and the estimate of a batch: true over a minute, and without jumps."""

import itertools
import random

import msgspec
import pytest

from gateway.cli.batch_seen import Pace, Seen, coarse, seen_of, share, span
from gateway.cli.batch_view import View, plain_line


def batch(done: int = 0, total: int = 1000, status: str = "in_progress", **own) -> Seen:
    body = {
        "id": "batch_1",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-1",
        "output_file_id": None,
        "error_file_id": None,
        "status": status,
        "created_at": 0,
        "in_progress_at": 0,
        "expires_at": 86400,
        "completed_at": 9,
        "request_counts": {"total": total, "completed": done, "failed": 0},
        "metadata": None,
        "gateway": {
            "kind": "answer", "department": "radiology", "priority": 0, "paused": False, "report_file_id": None,
            "by_outcome": {"released": done}, "reasons": {},
        } | own,
    }  # fmt: skip
    return seen_of(body)


def run(
    pace: Pace, rates: list[tuple[float, float]], total: int, every: float = 0.2
) -> list[tuple[float, float | None]]:
    """Let a batch go at these rates for so long, looked at each second in bursts; gives what was told of the end."""
    draw = random.Random(3)
    told, now, made, known = [], 0.0, 0.0, 0
    for rate, seconds in rates:
        end = now + seconds
        while now < end:
            made = min(total, made + rate * every)
            if round(now / every) % 5 == 0:
                known = max(known, int(made) - draw.randrange(min(int(rate), 20)))  # lines come together
                pace.see(batch(known, total), now)
            told.append((now, pace.left(now)))
            now += every
    return told


def test_a_steady_batch_is_estimated_right_and_without_jumps() -> None:
    told = run(Pace(), [(50, 200)], total=10_000)
    known = [(now, left) for now, left in told if left is not None]
    assert 2 < known[0][0] < 5, "nothing is promised at first"
    assert all(abs(now + left - 200) <= max(5, 0.2 * (200 - now) + 5) for now, left in known[25:] if now < 199)
    assert [left for _, left in known] == sorted((left for _, left in known), reverse=True), "it only falls"


def test_the_estimate_follows_a_slower_model_without_a_jump() -> None:
    told = run(Pace(), [(50, 60), (10, 120)], total=20_000)
    known = [left for now, left in told if left is not None and now > 20]
    steps = [after / before for before, after in itertools.pairwise(known)]
    assert max(steps) < 1.3, "it rises in steps, not at once"
    assert known[-1] > 2 * known[150], "and it does rise"


def test_the_rate_is_that_of_the_last_minute() -> None:
    pace = Pace()
    for second in range(200):
        pace.see(batch(second if second < 100 else 100 + (second - 100) * 5), second)
        if second == 2:
            assert pace.rate(2) is None, "too early"
    assert pace.rate(199) == pytest.approx(5, rel=0.02)
    pace.see(batch(595, paused=True), 200)
    assert pace.rate(200) is None and pace.left(200) is None
    pace.see(batch(595), 1000)
    pace.see(batch(605), 1010)
    assert pace.rate(1010) == pytest.approx(1), "the pause does not count"


def test_a_batch_that_stands_still_has_no_estimate_and_says_why() -> None:
    view = View(batch(status="validating", total=0), 0)
    assert view.notice(14, 14) is None
    assert view.notice(15, 15) == "no worker has taken it yet, for 15 s: is `gateway worker` running?"
    view.see(batch(0), 16)
    assert view.notice(30, 30) is None and "no line is done yet, for 16 s" in str(view.notice(32, 32))
    for second in range(40, 50):
        view.see(batch(second), second)
    assert view.notice(50, 50) is None and view.pace.left(50) == 660
    assert "nothing has moved for 1 min 11 s" in str(view.notice(120, 120)) and view.pace.left(120) is None
    assert "no estimate while nothing moves" in plain_line(view, 120, 120)
    view.trouble = "the gateway is away"
    assert plain_line(view, 120, 120) == view.notice(120, 120) == "the gateway is away"


def test_a_batch_whose_time_will_be_over_is_told_of() -> None:
    view = View(batch(0), 0)
    for second in range(1, 11):
        view.see(batch(second), second)
    assert view.notice(10, 10) is None
    assert "at this pace its time is over before it is done" in str(view.notice(10, 86400 - 60))


def test_shares_and_spans_promise_nothing_that_is_not_so() -> None:
    assert [share(*pair) for pair in ((0, 9), (1, 1000), (1, 100), (999, 1000), (9, 9), (0, 0))] == [
        "0 %", "under 1 %", "1 %", "99 %", "100 %", "0 %",
    ]  # fmt: skip
    assert [span(n) for n in (0, 59.6, 61, 120, 3600, 3661, 7200, 200_000)] == [
        "0 s", "1 min", "1 min 1 s", "2 min", "1 h", "1 h 1 min", "2 h", "2 d 7 h",
    ]  # fmt: skip
    assert all(seconds <= coarse(seconds) <= seconds * 1.2 + 5 for seconds in range(20_000))


def test_what_a_server_says_can_not_move_the_cursor() -> None:
    seen = batch(department="radio\x1b[2Jlogy", reasons={"a\x1bb": 1})
    assert "\x1b" not in repr(msgspec.structs.replace(seen, raw={}))
