"""Every personality of the reference upstream behind one gateway that is served for real: not streamed, held, windowed.

Each is asked over real sockets. Whatever the model does, the caller hears the right thing in bounded time and no text
that was not audited, and the log holds one complete record of every decision.
"""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from e2e.fault_kit import CASES, HOLD_BACK, MODES, NUMBERS, QUESTION, SAID, Case, Heard, Mode, policy_models, redacted
from support import Served, gateways, policy

from gateway.testing.upstream import PERSONALITIES, ReferenceUpstream, serving

BOUND = 90
"""Seconds in which every request has ended, on a busy machine too."""
PATIENT = {
    "prescreen": "[{stage: intent, deadline: 60s}, {stage: image-text, deadline: 60s}]",
    "demonstrations": "{stage: clinical, deadline: 60s}",
    "audit": "[{stage: refusal, deadline: 60s}, {stage: harmful-compliance, deadline: 60s},"
    " {stage: phi, on_finding: redact, deadline: 60s}, {stage: demonstration-leak, deadline: 60s}]",
    "over_defense": "",
}
"""Stages with deadlines that a busy machine keeps to: what is late in this tour is the model."""
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"finding": {"type": "string"}}}},
    }
    for name in ("look_up", "note_down")
]
STOPS = [(case, mode) for case in CASES for mode in MODES]
every_stop = pytest.mark.parametrize(("case", "mode"), STOPS, ids=[f"{case.name}-{mode}" for case, mode in STOPS])


@dataclass
class Tour:
    """The gateway with its upstreams. `asked` are the tasks of all requests by department, each named once."""

    served: Served
    upstreams: dict[tuple[str, str], ReferenceUpstream]
    keys: dict[str, str]
    heard: dict[tuple[str, str], Heard] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def request(self, department: str, model: str, task: str, *, stream: bool, tools: int = 0) -> httpx.Request:
        self.asked.append((department, task))
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": stream}
        if tools:
            body["tools"] = TOOLS
        headers = {"authorization": f"Bearer {self.keys[department]}", "x-gateway-task": task}
        return httpx.Request("POST", self.served.base + "/v1/chat/completions", json=body, headers=headers)

    def search(self, department: str, **fields: str) -> list[Any]:
        """Give the whole records that are found, once the index has taken in all that is logged."""
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            words = {"view": "full", "limit": "200", **fields} | ({"cursor": cursor} if cursor else {})
            query = "&".join(f"{name}={value}" for name, value in words.items())
            status, _, page = self.served.get(f"/decisions?{query}", self.keys[department])
            assert status == 200, page
            found += [row.get("record", row) for row in page["decisions"]]
            cursor = page["next"]
        return found

    def record(self, department: str, task: str) -> Any:
        """Give the one record of a request."""
        rows = wait(lambda: self.search(department, task=task), f"a record of {task}")
        assert len(rows) == 1, "one record for each request"
        return rows[0]


def wait(look: Callable[[], Any], what: str) -> Any:
    """Give what `look` gives, once it gives something."""
    end = time.monotonic() + BOUND
    while not (found := look()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    upstreams = {(case.name, mode): ReferenceUpstream(SAID, rate=case.rate) for case in CASES for mode in MODES}
    upstreams |= {("default", department): ReferenceUpstream(SAID, rate=100) for department in (*MODES, "strict")}
    with (
        socket.socket() as nobody,  # has a port, so that no other process takes it, and does not listen
        serving(*upstreams.values()),
        gateways(tmp_path_factory.mktemp("tour")) as serve,
    ):
        nobody.bind(("127.0.0.1", 0))
        urls = {stop: upstream.url for stop, upstream in upstreams.items()}
        urls |= {("down", mode): f"http://127.0.0.1:{nobody.getsockname()[1]}/v1" for mode in MODES}
        policies = {
            mode: policy(
                upstreams["default", mode].url, department=mode, models=policy_models(urls, mode), **PATIENT,
                stream="windowed" if mode == "windowed" else "held",
            )
            for mode in MODES
        }  # fmt: skip
        strict = policy(upstreams["default", "strict"].url, department="strict", stream="windowed", **PATIENT)
        policies["strict"] = strict.replace("on_finding: redact", "on_finding: withhold")
        served = serve(policies)
        keys = {name: served.key("caller", "officer", department=name) for name in policies}
        made = Tour(served, upstreams, keys)
        asyncio.run(ask_all(made))
        yield made


async def ask_all(tour: Tour) -> None:
    """Ask at every stop, six at a time."""
    places = asyncio.Semaphore(6)
    async with httpx.AsyncClient(timeout=BOUND) as client:

        async def ask(case: Case, mode: Mode) -> None:
            asking = tour.request(mode, case.name, case.name, stream=mode != "whole", tools=case.tools)
            async with places, asyncio.timeout(BOUND):
                told = await client.send(asking)
            tour.heard[case.name, mode] = Heard(told.status_code, dict(told.headers), told.text, mode != "whole")

        await asyncio.gather(*(ask(case, mode) for case, mode in STOPS))


def said(case: Case, heard: Heard) -> str:
    """Give the text that may leave of an answer that is long enough."""
    text = case.said or heard.text
    return redacted(" ".join([text] * 10_000) if case.personality == "endless" else text)


def test_the_tour_knows_every_personality() -> None:
    assert {case.personality.partition(":")[0] for case in CASES} - {"down"} == set(PERSONALITIES)


@every_stop
def test_the_caller_hears_the_right_thing(tour: Tour, case: Case, mode: Mode) -> None:
    heard = tour.heard[case.name, mode]
    for left in (heard.raw, heard.text, *heard.arguments.values()):
        assert not NUMBERS.search(left), "text of the model left that no auditor has seen"
    if case.whole(mode):
        assert heard.status == 200, heard.raw
        if case.tools:
            assert heard.finish == ["tool_calls"] and len(heard.arguments) == case.tools
            assert all(json.loads(text) == {"finding": redacted(SAID)} for text in heard.arguments.values())
        else:
            assert heard.text == said(case, heard) and len(heard.text) >= len(case.said[:17])
            assert heard.finish == ["stop"]
        assert not heard.streamed or heard.events[-1] == "[DONE]"
    elif case.broken_off(mode):
        assert heard.status == 200 and heard.headers["x-gateway-stream"] == "windowed"
        assert heard.text, "something has left"
        whole = said(case, heard)
        assert whole.startswith(heard.text) and len(heard.text) <= (case.may_have_left() or len(whole))
        assert heard.finish == [] and "[DONE]" not in heard.events
        assert heard.events[-1]["error"]["code"] == case.code
    else:
        assert (heard.status, heard.body["error"]["code"]) == (case.status, case.code)
        assert ("retry-after" in heard.headers) == (case.status == 429)
        assert heard.decision in heard.body["error"]["message"]


@every_stop
def test_the_record_tells_it(tour: Tour, case: Case, mode: Mode) -> None:
    heard = tour.heard[case.name, mode]
    status, _, record = tour.served.get(f"/decisions/{heard.decision}", tour.keys[mode])
    assert status == 200 and record["context"]["task"] == case.name and record["stream"] == (mode != "whole")
    completed = record["attempts"][-1]["completed"]
    if case.whole(mode):
        assert record["outcome"] == "released" and re.fullmatch("[0-9a-f]{64}", record["answer"])
        assert completed["model"] in (case.personality, case.name)
    else:
        assert record["outcome"] == "withheld" and re.fullmatch(case.cause_in(mode), completed["cause"])
        assert record["final"]["reasons"][0]["code"] == "model-failed"
    names = sum(len(tool["function"]["name"]) for tool in TOOLS[: case.tools])
    answered = case.whole(mode) or case.broken_off(mode)
    assert record["left"] == (len(heard.text) + sum(map(len, heard.arguments.values())) + names if answered else 0)
    streamed = record.get("streamed")
    if mode != "windowed":
        assert streamed is None
        return
    opened = tour.search(mode, kind="opened.v1", subject=heard.decision)
    paced = case.broken_off(mode) or (case.rate is not None and case.whole(mode))
    assert not paced or heard.headers["x-gateway-stream"] == "windowed"
    if heard.headers.get("x-gateway-stream") == "windowed":
        assert (streamed["mode"], streamed["hold_back"]) == ("windowed", HOLD_BACK)
        assert streamed["ended"] == ("whole" if case.whole(mode) else "model-failed")
        assert [row["id"] for row in opened] == [streamed["opened"]]
    else:
        assert (streamed["mode"], streamed["ended"], opened) == ("held", "whole", [])


def test_a_late_finding_ends_a_stream_with_the_closing_line(tour: Tour) -> None:
    upstream = tour.upstreams["default", "strict"]
    clean = "The ribs are whole and the lungs are clear, with no fluid on either side. " * 8
    upstream.answer = clean + SAID
    with httpx.Client(timeout=BOUND) as client:
        told = client.send(tour.request("strict", "auto", "late-finding", stream=True))
    heard = Heard(told.status_code, dict(told.headers), told.text, True)
    text, _, closing = heard.text.partition("\n\n")
    assert heard.status == 200 and not NUMBERS.search(heard.raw + heard.text)
    assert len(text) > 100 and clean.startswith(text)
    assert "stopped" in closing and heard.decision in closing
    assert heard.finish == ["content_filter"] and heard.events[-1] == "[DONE]"
    record = tour.record("strict", "late-finding")
    assert (record["outcome"], record["streamed"]["ended"], record["left"]) == ("withheld", "finding", len(text))


@contextlib.contextmanager
def connection(tour: Tour, asking: httpx.Request) -> Iterator[socket.socket]:
    """Send a request on a connection of its own."""
    with socket.create_connection((asking.url.host, asking.url.port), timeout=BOUND) as caller:
        head = "".join(f"{name}: {value}\r\n" for name, value in asking.headers.items())
        caller.sendall(f"POST {asking.url.path} HTTP/1.1\r\n{head}\r\n".encode() + asking.read())
        yield caller


@pytest.mark.parametrize(
    ("mode", "when"), [*((mode, "before-the-first-byte") for mode in MODES), ("windowed", "mid-stream")]
)
def test_a_caller_who_goes_stops_the_model(tour: Tour, mode: Mode, when: str) -> None:
    upstream = tour.upstreams["default", mode]
    upstream.personality = "slow-first:600" if when == "before-the-first-byte" else "stall"
    task = f"gone-{when}-{mode}"
    gone = upstream.cancelled
    asking = tour.request(mode, "auto", task, stream=mode != "whole")
    with connection(tour, asking) as caller:
        wait(lambda: upstream.answering == 1, "the model's turn")
        if when == "mid-stream":
            received = b""
            while b"no fracture" not in received:
                received += caller.recv(4096)
            assert not NUMBERS.search(received.decode(errors="replace"))
    wait(lambda: upstream.cancelled == gone + 1 and upstream.answering == 0, "the end of the connection to the model")
    record = tour.record(mode, task)
    assert record["outcome"] == "withheld"
    assert record["final"]["reasons"][0]["code"] == "caller-gone"
    assert record["attempts"][-1]["completed"]["cause"] == "caller-gone"
    if when == "mid-stream":
        assert record["streamed"]["ended"] == "caller-gone" and 0 < record["left"] < len(SAID)
        assert tour.search(mode, kind="opened.v1", subject=record["id"])[0]["id"] == record["streamed"]["opened"]
    else:
        assert record["left"] == 0


def test_afterwards_nothing_is_left_over(tour: Tour) -> None:
    """Every request has one whole record, no model works on, the log verifies, and the gateway answers."""
    with httpx.Client(timeout=BOUND) as client:
        for department in tour.keys:
            tour.upstreams["default", department].personality = "plain"
            tour.upstreams["default", department].answer = "The sagittal plane."
            told = client.send(tour.request(department, "auto", "at-the-end", stream=False))
            assert told.status_code == 200
            assert told.json()["choices"][0]["message"]["content"] == "The sagittal plane."
    wait(lambda: not any(each.answering for each in tour.upstreams.values()), "the end of all work")
    for department in tour.keys:
        asked = sorted(task for place, task in tour.asked if place == department)
        records = wait(
            lambda department=department, asked=asked: (
                found if len(found := tour.search(department)) >= len(asked) else None
            ),
            "a record of every request",
        )
        assert sorted(record["context"]["task"] for record in records) == asked
        opened = {record["decision"] for record in tour.search(department, kind="opened.v1")}
        left = {record["id"] for record in records if (record.get("streamed") or {}).get("opened")}
        assert opened == left, "each stream that was opened is closed"
    verified = tour.served.run("log", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    output = tour.served.output()
    assert not NUMBERS.search(output) and "show no fracture" not in output and QUESTION not in output
    assert "Traceback" not in output and "never retrieved" not in output
    assert tour.served.stop() == 0, "no task holds up the end"
