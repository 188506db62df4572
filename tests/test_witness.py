"""Where a gateway runs and what its clock is worth: told truly, when the clock is moved too."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.pipeline.witness import ASK_EVERY, JUMP, Clock, Witness, instance_id, kernel_state, steady
from gateway.records import Digester

DIGESTER = Digester(bytes(range(32)))


class Times:
    """Two clocks that a test moves, and a system that says what it is told to say."""

    def __init__(self) -> None:
        self.wall, self.steady, self.says, self.asked = 1_700_000_000.0, 50.0, "synchronised", 0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, steady=lambda: self.steady, ask=self.ask)

    def ask(self):
        self.asked += 1
        return self.says

    def pass_(self, seconds: float, *, slew: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + slew


def test_the_system_is_asked_at_the_start_and_every_minute():
    times = Times()
    clock = times.clock()
    for _ in range(100):
        assert clock.state() == "synchronised"
        times.pass_(0.5)
    assert times.asked == 1
    times.says = "unsynchronised"
    times.pass_(ASK_EVERY)
    assert [clock.state() for _ in range(50)] == ["unsynchronised"] * 50
    assert times.asked == 2


@pytest.mark.parametrize("by", [-3600.0, -JUMP - 0.01, JUMP + 0.01, 86400.0])
def test_a_moved_wall_clock_is_told_for_a_minute_and_logged_once(by, caplog):
    times = Times()
    clock = times.clock()
    assert clock.state() == "synchronised"
    times.wall += by
    with caplog.at_level(logging.WARNING, "gateway.clock"):
        assert clock.state() == "jumped"
        times.pass_(ASK_EVERY - 1)
        assert clock.state() == "jumped"
    assert [record.getMessage() for record in caplog.records] == [
        f"the wall clock moved by {by:.1f} s against the monotonic clock"
    ]
    times.pass_(1)
    assert clock.state() == "synchronised"


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(-0.4, 0.4)), max_size=30))
def test_slewing_is_no_jump_however_far_it_goes(steps):
    times = Times()
    clock = times.clock()
    for seconds, slew in steps:
        times.pass_(seconds, slew=slew)
        assert clock.state() == "synchronised"


def test_the_real_clocks_stand_still_against_each_other():
    clock = Clock()
    assert {clock.state() for _ in range(1000)} == {kernel_state()}
    assert kernel_state() in ("synchronised", "unsynchronised", "unknown")
    first = steady()
    assert steady() >= first


def test_an_instance_keeps_its_id_and_a_start_does_not(tmp_path):
    first, second = (Witness.of(tmp_path, DIGESTER) for _ in range(2))
    assert first.where.instance == second.where.instance == (tmp_path / "instance").read_text().strip()
    assert first.where.host == second.where.host
    assert first.where.process != second.where.process
    assert first.clock() == kernel_state()
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = Witness.of(other, Digester(bytes(32)))
    assert elsewhere.where.instance != first.where.instance
    assert elsewhere.where.host != first.where.host, "another secret gives another digest of the same name"
    assert len(first.where.instance) == len(first.where.host) == 32


def test_processes_that_start_at_once_get_the_same_id(tmp_path):
    code = (
        "import sys, pathlib; from gateway.pipeline.witness import instance_id; "
        "print(instance_id(pathlib.Path(sys.argv[1])))"
    )
    with ThreadPoolExecutor(8) as pool:
        threads = list(pool.map(lambda _: instance_id(tmp_path), range(8)))
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert {*threads, other.stdout.strip()} == {threads[0]}
    assert [path.name for path in tmp_path.iterdir()] == ["instance"]


@pytest.mark.parametrize("content", [b"", b"short", b"g" * 32, b"\xff" * 32])
def test_a_damaged_id_stops_the_start_with_what_to_do(tmp_path, content):
    (tmp_path / "instance").write_bytes(content)
    with pytest.raises(ConfigurationError, match="instance`"):
        instance_id(tmp_path)


def test_a_data_folder_that_is_none_stops_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="make the data folder writable"):
        instance_id(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
