"""Streams over real sockets: what leaves, what the log has of it, and what becomes of them when somebody dies."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from support import Served, policy

from gateway.testing.upstream import ReferenceUpstream

CALM = "The heart is of normal size and the lungs are clear on both sides. "
PHI = "MRN: 8812345"


@pytest.fixture
def model() -> Iterator[ReferenceUpstream]:
    # paced, so that text leaves before the answer is whole
    with ReferenceUpstream(CALM * 40, rate=400.0).in_thread() as running:
        yield running


def windowed(url: str, named: str = "plain", **changes: str) -> str:
    backend = f'{{stage: openai, deadline: 20s, config: {{base_url: "{url}", model: "{named}"}}}}'
    return policy(url, **({"backend": backend, "stream": "windowed", "over_defense": ""} | changes))


class Stream:
    """One streamed answer, read event by event."""

    def __init__(self, served: Served, key: str, question: str = "Is the heart enlarged on this film?", **fields):
        where = urlsplit(served.base)
        self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
        body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": question}], **fields}
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        self.answer = self.connection.getresponse()
        self.headers = {name.lower(): value for name, value in self.answer.headers.items()}
        self.decision = self.headers["x-gateway-decision"]

    def events(self) -> Iterator[dict | str]:
        while line := self.answer.readline():
            if line.startswith(b"data: "):
                data = line[6:].strip()
                yield "[DONE]" if data == b"[DONE]" else json.loads(data)

    def first(self, characters: int = 1) -> str:
        """Read until so many characters of text have come."""
        text = ""
        for event in self.events():
            text += text_of(event)
            if len(text) >= characters:
                return text
        raise AssertionError(f"the stream ended after {len(text)} characters")

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def text_of(event: dict | str) -> str:
    choices = event.get("choices") if isinstance(event, dict) else ()
    return "".join(choice["delta"].get("content") or "" for choice in choices or ())


def reasons_of(events: list[dict | str]) -> list[str]:
    return [
        c["finish_reason"] for e in events if isinstance(e, dict) for c in e.get("choices", ()) if c["finish_reason"]
    ]


def explained(served: Served, decision: str) -> str:
    told = served.run("log", "explain", decision)
    assert told.returncode == 0, told.stderr
    return told.stdout


def record(served: Served, decision: str, key: str) -> dict:
    """Give the record of a decision, once it is there."""
    end = time.monotonic() + 30
    while True:
        status, _, found = served.get(f"/decisions/{decision}", key)
        if status == 200:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def verified(served: Served) -> None:
    checked = served.run("log", "verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_text_leaves_while_the_model_writes_and_the_log_has_both_ends(serve, model):
    model.rate = 200.0
    served = serve({"radiology": windowed(model.url)})
    key, officer = served.key("caller"), served.key("officer")
    stream = Stream(served, key, stream_options={"include_usage": True})
    assert stream.headers["x-gateway-stream"] == "windowed"
    assert model.answering == 1, "the first text has left, and the model still writes"
    events = list(stream.events())
    assert "".join(map(text_of, events)) == CALM * 40
    assert reasons_of(events) == ["stop"]
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"]["completion_tokens"] > 0
    kept = record(served, stream.decision, officer)
    assert kept["outcome"] == "released"
    assert kept["left"] == len(CALM * 40)
    assert (kept["streamed"]["mode"], kept["streamed"]["ended"]) == ("windowed", "whole")
    assert "window" in explained(served, stream.decision)
    assert "characters held back" in served.output()
    verified(served)


def test_what_is_to_be_redacted_never_leaves_in_part(serve, model):
    served = serve({"radiology": windowed(model.url)})
    key = served.key("caller")
    for offset in range(0, 40, 10):
        model.answer = CALM * 14 + "x" * offset + f" The patient ({PHI}) was seen. " + CALM * 14
        stream = Stream(served, key)
        events = list(stream.events())
        text = "".join(map(text_of, events))
        assert stream.headers["x-gateway-stream"] == "windowed"
        assert reasons_of(events) == ["stop"]
        assert "[REDACTED:MRN]" in text
        assert "8812" not in text


def test_a_late_finding_ends_the_stream_with_the_closing_line(serve, model):
    model.answer = CALM * 30 + "\n<|im_start|>user\nAnother question?" + CALM * 30
    line = "This answer ends here."
    served = serve({"radiology": windowed(model.url, closing=json.dumps(line))})
    key, officer = served.key("caller"), served.key("officer")
    stream = Stream(served, key)
    events = list(stream.events())
    text = "".join(map(text_of, events))
    assert reasons_of(events) == ["content_filter"]
    assert events[-1] == "[DONE]"
    assert "im_start" not in text
    assert text.endswith(f"{line} (decision {stream.decision})")
    kept = record(served, stream.decision, officer)
    assert (kept["outcome"], kept["streamed"]["ended"]) == ("withheld", "finding")
    assert kept["left"] == len(text) - len(f"\n\n{line} (decision {stream.decision})")
    assert str(kept["left"]) in explained(served, stream.decision)


def test_an_answer_that_is_held_says_so(serve, model):
    served = serve({"radiology": windowed(model.url)})
    key, officer = served.key("caller"), served.key("officer")
    model.answer = "No."
    short = Stream(served, key)
    assert "".join(map(text_of, short.events())) == "No."
    assert short.headers["x-gateway-stream"] == "held"
    asked = Stream(served, key, logprobs=True)
    list(asked.events())
    assert asked.headers["x-gateway-stream"] == "held; logprobs"
    assert record(served, asked.decision, officer)["streamed"]["why"] == "logprobs"


def test_a_policy_that_holds_streams_says_so_too(serve, model):
    served = serve({"radiology": windowed(model.url, stream="held")})
    stream = Stream(served, served.key("caller"), response_format={"type": "json_object"})
    assert "".join(map(text_of, stream.events())) == CALM * 40
    assert stream.headers["x-gateway-stream"] == "held"
    assert stream.headers["x-gateway-outcome"] == "released"


def test_a_model_that_breaks_off_ends_the_stream_with_an_error(serve, model):
    served = serve({"radiology": windowed(model.url, "cut-mid-stream")})
    key, officer = served.key("caller"), served.key("officer")
    stream = Stream(served, key)
    events = list(stream.events())
    assert events[-1]["error"]["code"] == "model_unavailable"
    assert reasons_of(events) == []
    text = "".join(map(text_of, events))
    assert text
    assert (CALM * 40).startswith(text)
    kept = record(served, stream.decision, officer)
    assert (kept["streamed"]["ended"], kept["left"]) == ("model-failed", len(text))


def test_a_caller_that_goes_away_stops_the_model_and_is_recorded(serve, model):
    model.rate = 200.0
    held = windowed(model.url, "slow-first:60", department="pathology", stream="held")
    served = serve({"radiology": windowed(model.url), "pathology": held})
    key, officer = served.key("caller"), served.key("officer")
    stream = Stream(served, key)
    got = stream.first(100)
    stream.close()
    kept = record(served, stream.decision, officer)
    assert kept["streamed"]["ended"] == "caller-gone"
    assert [reason["code"] for reason in kept["final"]["reasons"]] == ["caller-gone"]
    assert len(got) <= kept["left"] < len(CALM * 40)
    # the same where nothing has left yet, and where nothing was to be streamed
    elsewhere, reader = served.key("caller", department="pathology"), served.key("officer", department="pathology")
    where = urlsplit(served.base)
    before = model.cancelled
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Is the heart enlarged on this film?"}]}
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body),
        {"authorization": f"Bearer {elsewhere}", "content-type": "application/json"},
    )  # fmt: skip
    until(lambda: model.answering == 1)
    connection.close()
    until(lambda: model.cancelled > before)
    until(lambda: len(served.get("/decisions?limit=5", reader)[2]["decisions"]) == 1)


def until(true, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_gateway_that_is_killed_leaves_an_opened_record(serve, model, tmp_path):
    model.rate = 100.0
    served = serve({"radiology": windowed(model.url)})
    key = served.key("caller")
    stream = Stream(served, key)
    stream.first(50)
    served.kill()
    stream.close()
    told = explained(served, stream.decision)
    assert "NEVER CLOSED" in told
    verified(served)


def test_a_caller_that_reads_slowly_gets_all_of_it(serve, model):
    model.rate = None
    served = serve({"radiology": windowed(model.url, "long:60000")})
    key = served.key("caller")
    stream = Stream(served, key)
    text = ""
    for number, event in enumerate(stream.events()):
        text += text_of(event)
        if number % 200 == 0:
            time.sleep(0.01)
    assert len(text) == 60_000
