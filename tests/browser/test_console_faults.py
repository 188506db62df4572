"""What the console does where something is wrong: a changed record, a log that is full, a right that ends."""

import re
import sqlite3

import pytest
from browser.kit import Served, outcomes
from browser.sample import a_weeks_work, sealed, told
from msgspec.structs import replace

from gateway.errors import Unavailable
from gateway.records import Streamed


@pytest.fixture
def alone(tmp_path):
    """A gateway of this test's own, which it may break."""
    gateway = Served(tmp_path)
    yield gateway
    gateway.close()


def csrf(gateway, cookie):
    return re.search(r'name="csrf" value="([0-9a-f]+)"', gateway.ask("GET", "/console/nothing", cookie=cookie)[2])[1]


def test_no_route_is_open(served):
    """Whoever is not signed in, or sends a form without a token, gets nothing from any route but the way in."""
    cookie = served.signed("officer")
    seen = 0
    for route in served.app.routes:
        if not route.path.startswith("/console") or route.path.startswith("/console/assets"):
            continue
        path = re.sub(r"\{\w+:\w+\}", "dec_00000000000000000000000000", route.path)
        for method in route.methods - {"OPTIONS", "HEAD"}:
            seen += 1
            form = {"key": "gw_x"} if method == "POST" else None
            status, _, text = served.ask(method, path, form=form)
            assert status == (403 if method == "POST" else 200 if path.endswith("/sign-in") else 303), path
            if method == "POST" and not path.endswith("/sign-in"):
                status, headers, _ = served.ask(method, path, form=form, origin=served.base)
                assert (status, headers["location"]) == (303, "/console/sign-in")
                status, _, text = served.ask(method, path, form=form, origin=served.base, cookie=cookie)
                assert status == 403 and "token is not that of this session" in text, path
    assert seen > 20


def test_a_changed_record_is_shown_to_nobody(alone):
    good, bad = alone.log(told(outcomes.refused()), told(outcomes.refused()))
    with sqlite3.connect(alone.folder / "log.sqlite3") as database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type='trigger' AND tbl_name='decision_log'")
        for (name,) in triggers.fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute(
            "UPDATE decision_log SET body = CAST(replace(body, 'refused', 'REFUSED') AS BLOB) WHERE id = ?", (bad,)
        )
    cookie = alone.signed("officer")
    status, _, text = alone.ask("GET", f"/console/decisions/{bad}", cookie=cookie)
    assert status == 503 and "is damaged" in text and "gateway log verify" in text
    assert "insurance" not in text
    assert alone.ask("GET", f"/console/decisions/{good}", cookie=cookie)[0] == 200
    form = {"csrf": csrf(alone, cookie)}
    assert alone.ask("POST", "/console/integrity/verify", form=form, cookie=cookie, origin=alone.base)[0] == 303
    for _ in range(200):
        _, _, text = alone.ask("GET", "/console/integrity/verification", cookie=cookie)
        if "Running since" not in text:
            break
    assert re.search(r"found: record \d+", text), text


def test_what_can_not_be_recorded_is_not_shown(alone, monkeypatch):
    id_ = alone.log(told(sealed(outcomes.refused("A secret question"))))[0]
    cookie = alone.signed("officer")
    token = {"csrf": csrf(alone, cookie)}
    asked = {"export": {"why": "long enough", "redaction": "full"}}
    reason = {"reason": "long enough", "minutes": "5"}

    async def fail(event):
        raise Unavailable("the decision log can not be written; the disk is full; free some space")

    monkeypatch.setattr(alone.store.decisions, "append_event", fail)
    for path in ("/console/decisions", f"/console/decisions/{id_}", "/console/reviews"):
        status, _, text = alone.ask("GET", path, cookie=cookie)
        assert status == 503 and "the disk is full" in text and "insurance" not in text, path
    for path in (
        f"decisions/{id_}/reveal",
        f"decisions/{id_}/verify",
        f"reviews/{id_}/take",
        "export",
        "integrity/verify",
    ):
        form = token | asked.get(path, reason)
        status, headers, text = alone.ask("POST", f"/console/{path}", form=form, cookie=cookie, origin=alone.base)
        assert status == 503 and "secret" not in text and "content-disposition" not in headers, path
    status, headers, _ = alone.ask("POST", "/console/sign-in", form={"key": alone.keys["second"]}, origin=alone.base)
    assert status == 503 and "set-cookie" not in headers


def test_break_glass_opens_the_console_for_as_long_as_it_lasts(alone):
    id_ = alone.log(*a_weeks_work(alone.run))[3]
    key = alone.keys["caller"]
    assert alone.ask("POST", "/console/sign-in", form={"key": key}, origin=alone.base)[0] == 403
    caller = alone.run(alone.store.keys.authenticate(key))
    alone.run(alone.store.grants.break_glass(caller, "the officer is ill", 30, person="dr.weiss"))
    cookie = alone.signed("caller")
    _, _, text = alone.ask("GET", f"/console/decisions/{id_}", cookie=cookie)
    assert "REFUSED" in text and "Sign the verdict" not in text
    form = {"csrf": csrf(alone, cookie), "reason": "an emergency", "minutes": "5"}
    status, _, text = alone.ask("POST", f"/console/decisions/{id_}/reveal", form=form, cookie=cookie, origin=alone.base)
    assert status == 200 and "Invent a lesion" in text
    alone.store.grants._known, alone.store.grants._fresh_until = (), float("inf")  # as if its time were over
    for path in (f"/console/decisions/{id_}", f"/console/decisions/{id_}/content", "/console/decisions"):
        status, _, text = alone.ask("GET", path, cookie=cookie)
        assert status == 403 and "lesion" not in text


def test_demonstrations_that_are_gone_are_named(alone):
    id_ = alone.log(told(outcomes.released()))[0]
    _, _, text = alone.ask("GET", f"/console/decisions/{id_}", cookie=alone.signed("officer"))
    assert "The gateway can not show them now" in text and "ct-00" in text


def test_a_stream_is_shown_with_its_end_and_without(alone):
    base = told(outcomes.withheld("What dose?", "Take all of them."))
    never = alone.run(alone.store.decisions.open(told(outcomes.withheld("And then?", "More.")), hold_back=64))
    opened = alone.run(alone.store.decisions.open(base, hold_back=64))
    late = Streamed(mode="windowed", hold_back=64, opened=opened.id, first_ms=80.0, ended="finding")
    part = base.attempts[0].completed.completion
    (id_,) = alone.log(replace(base, streamed=late, answer=part))
    cookie = alone.signed("officer")
    status, _, text = alone.ask("GET", f"/console/decisions/{id_}", cookie=cookie)
    assert status == 200 and "WITHHELD IN PART" in text and "How the answer was streamed" in text
    assert "windowed, ended: finding" in text and f'href="/console/decisions/{opened.id}"' in text
    status, _, text = alone.ask("GET", f"/console/decisions/{opened.id}", cookie=cookie)
    assert status == 200 and f"stands in the record of the decision, {id_}" in " ".join(text.split())
    for path in (never.decision, never.id):
        status, _, text = alone.ask("GET", f"/console/decisions/{path}", cookie=cookie)
        assert status == 200 and "NEVER CLOSED" in text and f"Record {never.id}" in text
    assert alone.ask("GET", f"/console/decisions/{never.decision}", cookie=alone.signed("pathologist"))[0] == 404
