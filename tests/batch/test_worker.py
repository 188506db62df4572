"""Celery's side of batches: what messages hold, which brokers there are, and what is done at set times."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import logging
import socket
import subprocess
import sys
import threading
from queue import Empty

import pytest
from kombu.exceptions import ChannelError
from store.kit import SECRET, outcomes

from gateway.batch.broker import BrokerNews, broker_place
from gateway.batch.folder import OLD, tidy
from gateway.batch.jobs import checkpoint, draw_reviews
from gateway.batch.process import Flag, Process
from gateway.batch.report import daily_reports
from gateway.batch.schedule import _Turn, timetable
from gateway.batch.tasks import WORK, _until, send_work
from gateway.batch.wake import Waker
from gateway.batch.worker import create_worker
from gateway.errors import ConfigurationError
from gateway.opening import open_store
from gateway.pipeline.live import Live
from gateway.settings import read_settings

PASSWORD = "s3cr3t-word"


def settings(tmp_path, **flags):
    return read_settings({"GATEWAY_SECRET": SECRET.hex()}, data_dir=tmp_path, **flags)


def messages(tmp_path):
    return sorted((tmp_path / "broker" / "messages").iterdir())


def test_a_message_holds_the_name_of_a_task_and_nothing_else(tmp_path) -> None:
    app = create_worker(settings(tmp_path))
    send_work(app)
    (place,) = messages(tmp_path)
    message = json.loads(place.read_text())
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == WORK and message["headers"]["expires"]
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([], {})


def test_work_is_acknowledged_after_it_and_what_takes_hours_before(tmp_path) -> None:
    app = create_worker(settings(tmp_path))
    own = {name: task for name, task in app.tasks.items() if name.startswith("gateway.")}
    late = {name for name, task in own.items() if task.acks_late}
    assert late == {WORK, "gateway.reap"}
    assert all(own[name].reject_on_worker_lost for name in late)
    assert app.conf.accept_content == ["json"] and app.conf.task_serializer == "json"
    assert app.conf.worker_prefetch_multiplier == 1
    assert not app.conf.worker_enable_remote_control
    assert app.conf.broker_connection_max_retries is None, "a broker that is away is tried for ever"


def test_everything_on_the_timetable_is_a_task_and_expires(tmp_path) -> None:
    given = settings(tmp_path)
    rows = timetable(given)["beat_schedule"].values()
    assert {row["task"] for row in rows} <= set(create_worker(given).tasks)
    assert all(row["options"]["expires"] > 0 for row in rows), "or messages would pile up where no worker runs"


@pytest.mark.parametrize(
    "url",
    [
        f"reddis://user:{PASSWORD}@host/0",
        f"redis://:{PASSWORD}@/0",
        f"redis://:{PASSWORD}@host/zero",
        f"redis://:{PASSWORD}@host:port/0",
        f"amqp://guest:{PASSWORD}@",
        f"kafka://{PASSWORD}@host",
        f"filesystem:///tmp/{PASSWORD}",
        f"redis://:{PASSWORD}@host/0#x",
        "redis",
    ],
)
def test_a_broker_that_is_none_is_told_without_its_password(tmp_path, url) -> None:
    with pytest.raises(ConfigurationError) as found:
        create_worker(settings(tmp_path, broker_url=url))
    told = str(found.value)
    assert told.startswith("GATEWAY_BROKER_URL: ") and PASSWORD not in told
    assert "filesystem://" in told


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"redis://:{PASSWORD}@host/2", "the broker `redis://host:6379`"),
        (f"rediss://:{PASSWORD}@host:7000", "the broker `rediss://host:7000`"),
        (f"amqp://guest:{PASSWORD}@host/vhost", "the broker `amqp://host:5672`"),
        (f"amqps://guest:{PASSWORD}@host//", "the broker `amqps://host:5671`"),
    ],
)
def test_the_brokers_there_are(tmp_path, url, place) -> None:
    given = settings(tmp_path, broker_url=url)
    assert broker_place(given) == place
    assert create_worker(given).conf.broker_url == url


def test_queues_keep_installations_apart(tmp_path) -> None:
    given = read_settings({"GATEWAY_QUEUE": "night"}, data_dir=tmp_path)
    send_work(create_worker(given))
    assert messages(tmp_path)[0].name.endswith(".night.msg")
    with pytest.raises(ConfigurationError, match="GATEWAY_QUEUE"):
        read_settings({"GATEWAY_QUEUE": "../night"}, data_dir=tmp_path)


def test_one_worker_of_a_data_folder_sends_what_is_due(tmp_path) -> None:
    place = tmp_path / "beat.lock"
    code = (
        "import sys, pathlib; from gateway.batch.schedule import _Turn; print(_Turn(pathlib.Path(sys.argv[1])).mine())"
    )

    def other() -> str:
        return subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True).stdout.strip()

    assert other() == "True" == other(), "a lock goes with the process that held it"
    mine = _Turn(place)
    assert mine.mine() and mine.mine()
    assert other() == "False"


# The folder


def taken(app, number=1):
    """Take messages as a worker does; give the names of their tasks."""
    found = []
    with app.connection_for_read() as connection, connection.SimpleQueue("gateway") as queue:
        for _ in range(number):
            message = queue.get(timeout=5)
            found.append(message.headers["task"])
            message.ack()
        with pytest.raises(queue.Empty):
            queue.get(block=False)
    return found


@pytest.mark.parametrize("text", ["", '{"body": "W10', "\x00\x01", "[", "\xff"])
def test_a_message_that_is_half_written_is_dropped(tmp_path, text) -> None:
    app = create_worker(settings(tmp_path))
    folder = tmp_path / "broker" / "messages"
    (folder / "0_half.gateway.msg").write_text(text)
    send_work(app)
    assert taken(app) == [WORK]
    assert not messages(tmp_path)


def test_each_message_is_taken_by_one(tmp_path) -> None:
    app = create_worker(settings(tmp_path))
    for _ in range(40):
        send_work(app)
    found: list[str] = []

    def take() -> None:
        channel = app.connection_for_read().channel()
        while channel._size("gateway"):
            with contextlib.suppress(Empty):  # another was first
                found.append(channel._get("gateway")["headers"]["id"])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 40


def test_a_folder_that_takes_nothing_is_a_fault_of_the_broker(tmp_path) -> None:
    app = create_worker(settings(tmp_path))
    (tmp_path / "broker" / "messages").rename(tmp_path / "gone")
    with pytest.raises(ChannelError, match="No such file"):
        app.connection_for_write().channel()._put("gateway", {})


def test_what_nobody_took_is_dropped_in_time(tmp_path) -> None:
    app = create_worker(settings(tmp_path))
    send_work(app)
    (old,) = messages(tmp_path)
    (old.parent / "1_x.part").write_text("half")
    (old.parent / "note.txt").write_text("somebody's")
    assert tidy(old.parent) == 0
    assert tidy(old.parent, now=old.stat().st_mtime + OLD + 60) == 2
    assert [place.name for place in messages(tmp_path)] == ["note.txt"]


# Waking


async def test_a_broker_that_is_away_is_a_warning_and_told_once(tmp_path, caplog) -> None:
    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))  # nobody listens there
        url = f"redis://:{PASSWORD}@127.0.0.1:{taken_port.getsockname()[1]}/0"
        waker = Waker(settings(tmp_path, broker_url=url))
        await waker.wake()
        await waker.wake()
    (told,) = [record.getMessage() for record in caplog.records if record.name == "gateway.batch"]
    assert "can not be reached" in told and PASSWORD not in told


async def test_a_broker_that_never_answers_holds_nobody_up(tmp_path, caplog) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        waker = Waker(settings(tmp_path, broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        await asyncio.wait_for(waker.wake(), 10)
        await asyncio.wait_for(waker.wake(), 1)  # the first message is on its way still: there is no second thread
        assert sum(thread.name == "wake" for thread in threading.enumerate()) == 1
    assert any("can not be reached" in record.getMessage() for record in caplog.records)


async def test_a_wake_is_one_message(tmp_path) -> None:
    await Waker(settings(tmp_path)).wake()
    assert len(messages(tmp_path)) == 1


def test_the_news_of_the_broker_is_told_once_and_without_its_address(caplog) -> None:
    caplog.set_level(logging.INFO)
    news = BrokerNews("the broker `redis://host:6379`")

    def said(message, *args, level=logging.ERROR):
        return news.filter(logging.LogRecord("celery.worker.consumer", level, "x.py", 1, message, args, None))

    assert not said("consumer: Cannot connect to %s: %s.\n%s\n", f"redis://:{PASSWORD}@host", "refused", "")
    assert not said("%s (%r)", "consumer: Connection to broker lost. Trying", OSError())
    assert not said("Connected to %s", "redis://host", level=logging.INFO)
    assert not said("something else", level=logging.INFO)
    assert said("something else"), "by its place"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "can not be reached" in told[0] and "is reached again" in told[1]
    assert PASSWORD not in "".join(told)


# A process


def test_policies_that_can_not_be_loaded_are_told_and_the_task_ends(tmp_path, caplog) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "radiology.yaml").write_text("department: radiology\nrevision: [\n")
    flag = Flag()
    process = Process(settings(tmp_path, policies_dir=tmp_path / "policies"), flag)
    process.start()
    assert process.work() is False and process.work() is False
    assert process.waiting() == 0, "it still looks into the tables"
    flag.set()
    process.close()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1 and "load the policies" in told[0] and "radiology.yaml" in told[0]
    assert process.work() is False, "and answers nobody after its end"


async def test_what_takes_hours_is_given_up_at_a_shutdown() -> None:
    flag, begun, closed = Flag(), asyncio.Event(), asyncio.Event()

    async def long() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            closed.set()

    doing = asyncio.create_task(_until(long(), flag))
    await begun.wait()
    flag.set()
    assert await doing is False and closed.is_set()
    assert await _until(asyncio.sleep(0), lambda: False) is True


def test_live_requests_are_counted_by_department() -> None:
    live = Live()
    with live.enter("radiology"), live.enter("radiology"):
        with live.enter("pathology"):
            assert live.counts() == {"radiology": 2, "pathology": 1}
        assert live.most() == {"radiology": 2, "pathology": 1}, "also what has ended since"
        assert live.most() == {"radiology": 2}
    assert live.counts() == {} and live.most() == {"radiology": 2} and live.most() == {}


# At set times


@pytest.fixture
async def filled(tmp_path):
    given = settings(tmp_path)
    store = await open_store(given)
    made = [outcomes.released(), outcomes.refused(), outcomes.released(), outcomes.refused(), outcomes.released()]
    logged = [await store.decisions.append(outcome) for outcome in made]
    await store.close()
    return given, [each.outcome for each in logged]


async def test_the_report_of_a_day_counts_what_the_log_holds(filled) -> None:
    given, made = filled
    day = made[0].started.date()
    (place,) = await daily_reports(given, today=day + dt.timedelta(days=1))
    assert place == given.data_dir / "reports" / f"{day}.json"
    report = json.loads(place.read_text())
    expected: dict[str, dict[str, int]] = {}
    for outcome in made:
        of = expected.setdefault(outcome.policy.policy.department, {})
        of[outcome.word] = of.get(outcome.word, 0) + 1
    assert report["decisions"] == {"total": 5, "by_department": expected}
    assert report["batches"] == {"ended": 0, "by_department": {}}
    assert report["reviews"]["overdue"] == 0
    assert await daily_reports(given, today=day + dt.timedelta(days=1)) == (), "a report that is there stays"
    later = await daily_reports(given, today=day + dt.timedelta(days=4))
    assert [each.stem for each in later] == [str(day + dt.timedelta(days=n)) for n in (1, 2, 3)], "no day is left out"
    assert json.loads(later[-1].read_text())["decisions"]["total"] == 0


async def test_a_checkpoint_is_signed_and_brought_away(filled) -> None:
    given, made = filled
    assert await checkpoint(given) >= len(made)
    notes = list((given.data_dir / "checkpoints").glob("*.notes"))
    assert len(notes) == 1 and notes[0].read_text().strip()
    waiting = await draw_reviews(given)
    assert waiting.overdue == 0
