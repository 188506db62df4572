"""Signing in and out, and what keeps others out: cookies, tokens, origins, headers, ends."""

import base64
import datetime as dt
import json
import re

import pytest
from browser.kit import Served

from gateway.errors import ConfigurationError
from gateway.records import AccessV1
from gateway.settings import read_settings
from gateway.web.console.sign_in import _expiry, _safe_next

PAGES = ("/console", "/console/decisions", "/console/reviews", "/console/integrity", "/console/nothing/here")


def csrf(text):
    return re.search(r'name="csrf" value="([0-9a-f]{64})"', text)[1]


def last(served, action):
    rows = served.run(served.store.decisions.recent(50, kind="access.v1"))
    return [row.record for row in rows if isinstance(row.record, AccessV1) and row.record.action == action]


@pytest.mark.parametrize("path", PAGES)
def test_whoever_is_not_signed_in_sees_nothing(served, path):
    status, headers, text = served.ask("GET", path)
    assert status == 303 and text == ""
    assert headers["location"].startswith("/console/sign-in?next=")


@pytest.mark.parametrize("path", [*PAGES, "/console/sign-in", "/console/assets/0/none.css"])
def test_every_page_has_its_headers(served, path):
    for cookie in (None, served.signed("officer")):
        _, headers, _ = served.ask("GET", path, cookie=cookie)
        policy = headers.get_all("content-security-policy")
        assert policy == [
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ]
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert (headers["cache-control"] == "no-store") or path.startswith("/console/assets/")


def test_pages_hold_no_script_and_no_style_of_their_own(served):
    cookie = served.signed("officer")
    for path in ("/console/sign-in", "/console/decisions", "/console/integrity", "/console/reviews"):
        _, _, text = served.ask("GET", path, cookie=cookie)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text, re.IGNORECASE), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))


def test_assets_may_be_kept_and_others_are_not_there(served):
    _, _, text = served.ask("GET", "/console/sign-in")
    for path in re.findall(r'(?:href|src)="(/console/assets/[^"]+)"', text):
        status, headers, body = served.ask("GET", path)
        assert status == 200 and body
        assert headers.get_all("cache-control") == ["public, max-age=31536000, immutable"]
    for name in ("console.css", "htmx.LICENSE.txt", "..%2fguard.py"):
        path = f"/console/assets/x/{name}"
        assert served.ask("GET", path)[0] == 404


def test_the_cookie_is_out_of_reach(served):
    status, headers, _ = served.ask(
        "POST", "/console/sign-in", form={"key": served.keys["officer"]}, origin=served.base
    )
    assert status == 303
    cookie = headers["set-cookie"]
    assert cookie.startswith("gateway-console=") and "Max-Age" not in cookie
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {"httponly", "path=/", "samesite=strict"}
    assert last(served, "sign-in")[0].caller.via == "session"


def test_over_https_the_cookie_is_bound_to_the_host(tmp_path):
    secure = Served(tmp_path, public_url="https://gateway.example")
    try:
        form = {"key": secure.keys["officer"]}
        assert secure.ask("POST", "/console/sign-in", form=form, origin=secure.base)[0] == 403
        status, headers, _ = secure.ask("POST", "/console/sign-in", form=form, origin="https://gateway.example")
        assert status == 303
        assert headers["set-cookie"].startswith("__Host-gateway-console=")
        assert "; secure" in headers["set-cookie"].lower()
        value = headers["set-cookie"].partition("=")[2].partition(";")[0]
        assert secure.ask("GET", "/console", cookie=value)[1]["location"].startswith("/console/sign-in")
        own = secure.ask("GET", "/console", cookie=f"x; __Host-gateway-console={value}")
        assert own[1]["location"] == "/console/decisions"
    finally:
        secure.close()


def test_the_database_holds_no_cookie(served):
    cookie = served.signed("officer")
    held = b"".join(path.read_bytes() for path in served.folder.glob("log.sqlite3*"))
    assert len(held) > 10_000 and cookie.encode() not in held


@pytest.mark.parametrize("key", ["", "gw_nothing", "gw_000000000000_" + "A" * 43, "schön", "a b", "x" * 9000])
def test_a_wrong_key_opens_nothing(served, key):
    status, headers, text = served.ask("POST", "/console/sign-in", form={"key": key}, origin=served.base)
    assert status in (401, 429) and "set-cookie" not in headers
    assert key not in text or not key


def test_guessing_is_slowed(tmp_path):
    gateway = Served(tmp_path)
    try:
        answers = [
            gateway.ask("POST", "/console/sign-in", form={"key": f"gw_wrong{number}"}, origin=gateway.base)[0]
            for number in range(40)
        ]
        assert answers[0] == 401 and answers[-1] == 429
        assert answers == sorted(answers)
    finally:
        gateway.close()


def test_a_caller_can_not_enter(tmp_path):
    gateway = Served(tmp_path)
    try:
        status, headers, text = gateway.ask(
            "POST", "/console/sign-in", form={"key": gateway.keys["caller"]}, origin=gateway.base
        )
        assert status == 403 and "set-cookie" not in headers
        assert "roles do not open the console" in text
    finally:
        gateway.close()


@pytest.mark.parametrize(
    ("name", "home", "closed"),
    [
        ("officer", "/console/decisions", []),
        ("auditor", "/console/decisions", ["/console/reviews"]),
        ("admin", "/console/decisions", ["/console/reviews"]),
        ("platform", "/console/integrity", ["/console/decisions", "/console/reviews"]),
    ],
)
def test_each_role_has_its_pages(served, name, home, closed):
    cookie = served.signed(name)
    assert served.ask("GET", "/console", cookie=cookie)[1]["location"] == home
    for path in ("/console/decisions", "/console/reviews", "/console/integrity"):
        status, _, text = served.ask("GET", path, cookie=cookie)
        assert status == (403 if path in closed else 200), (path, text[-400:])
        assert all(f'href="{other}"' not in text for other in closed)


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_form_of_another_site_is_refused(served, origin):
    cookie = served.signed("officer")
    token = csrf(served.ask("GET", "/console/sign-in/..", cookie=cookie)[2])
    sent = {} if origin is None else {"origin": origin}
    assert served.ask("POST", "/console/sign-in", form={"key": served.keys["officer"]}, **sent)[0] == 403
    assert served.ask("POST", "/console/sign-out", form={"csrf": token}, cookie=cookie, **sent)[0] == 403
    assert served.ask("GET", "/console", cookie=cookie)[1]["location"] == "/console/decisions"


def test_a_form_without_the_sessions_own_token_is_refused(served):
    cookie, other = served.signed("officer"), served.signed("second")
    theirs = csrf(served.ask("GET", "/console/nothing", cookie=other)[2])
    for token in ("", "0" * 64, theirs, "ü\ud800".encode("utf-8", "surrogatepass").hex()):
        status, _, _ = served.ask("POST", "/console/sign-out", form={"csrf": token}, cookie=cookie, origin=served.base)
        assert status == 403
    own = csrf(served.ask("GET", "/console/nothing", cookie=cookie)[2])
    assert served.ask("POST", "/console/sign-out", form={"csrf": own}, cookie=cookie, origin=served.base)[0] == 303
    assert served.ask("GET", "/console", cookie=cookie)[1]["location"].startswith("/console/sign-in")


def test_a_form_that_is_none_is_refused(served):
    cookie = served.signed("officer")
    for media in ("application/json", "text/plain", "multipart/form-data; boundary=x"):
        status, _, _ = served.ask(
            "POST", "/console/sign-out", form={"csrf": "x"}, cookie=cookie, origin=served.base, content_type=media
        )
        assert status == 400
    many = {f"field{number}": "" for number in range(200)}
    assert served.ask("POST", "/console/sign-out", form=many, cookie=cookie, origin=served.base)[0] == 400
    large = {"csrf": "x" * 70_000}
    assert served.ask("POST", "/console/sign-out", form=large, cookie=cookie, origin=served.base)[0] == 413
    assert served.ask("POST", "/console/sign-out", form={"csrf": "\x00"}, cookie=cookie, origin=served.base)[0] == 400


def test_a_planted_session_is_not_taken_over(served):
    planted = served.signed("auditor")
    form = {"key": served.keys["officer"]}
    _, headers, _ = served.ask("POST", "/console/sign-in", form=form, cookie=planted, origin=served.base)
    fresh = headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert fresh != planted
    assert served.ask("GET", "/console", cookie=planted)[1]["location"].startswith("/console/sign-in")
    assert served.ask("GET", "/console", cookie=fresh)[1]["location"] == "/console/decisions"
    unknown = "A" * 43
    _, headers, _ = served.ask("POST", "/console/sign-in", form=form, cookie=unknown, origin=served.base)
    assert unknown not in headers["set-cookie"]


def test_a_session_ends(served):
    sessions = served.store.sessions
    real = sessions.now
    cookie, busy = served.signed("officer"), served.signed("officer")

    def at(minutes, which):
        sessions.now = lambda: real() + dt.timedelta(minutes=minutes)
        return served.ask("GET", "/console", cookie=which)[1]["location"] == "/console/decisions"

    try:
        assert at(29, cookie) and at(58, cookie)
        assert not at(89, cookie), "after 30 idle minutes it is over"
        for minutes in range(0, 480, 25):
            assert at(minutes, busy), minutes
        assert at(479, busy) and not at(481, busy), "after 8 hours it is over, however busy"
    finally:
        sessions.now = real


def test_a_revoked_key_ends_its_session(served):
    key, text = served.run(served.store.keys.create("radiology", ("officer",)))
    _, headers, _ = served.ask("POST", "/console/sign-in", form={"key": text}, origin=served.base)
    cookie = headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert served.ask("GET", "/console", cookie=cookie)[1]["location"] == "/console/decisions"
    assert served.run(served.store.keys.revoke(key.id))
    assert served.ask("GET", "/console", cookie=cookie)[1]["location"].startswith("/console/sign-in")


def test_a_page_that_polls_is_sent_to_sign_in_as_a_whole(served):
    status, headers, _ = served.ask("GET", "/console/integrity", hx_request="true")
    assert status == 204 and headers["hx-redirect"] == "/console/sign-in"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("/console/decisions?outcome=refused&since=2026-01-01", True),
        ("/console/decisions/dec_0", True),
        ("//evil.example", False),
        ("/console//evil.example", False),
        ("/console/../v1", False),
        ("https://evil.example/console/", False),
        ("/console/\\evil.example", False),
        ("/console/decisions\r\nset-cookie: a=b", False),
        ("/console/sign-in", False),
        ("javascript:alert(1)", False),
    ],
)
def test_after_signing_in_only_pages_of_the_console_come_next(served, given, taken):
    assert _safe_next(given) == (given if taken else "")
    form = {"key": served.keys["officer"], "next": given}
    _, headers, _ = served.ask("POST", "/console/sign-in", form=form, origin=served.base)
    assert headers["location"] == (given if taken else "/console/decisions")


def test_a_token_ends_the_session_with_it():
    def token(claims):
        return "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".c2ln"

    assert _expiry(token({"exp": 2_000_000_000})) == dt.datetime(2033, 5, 18, 3, 33, 20, tzinfo=dt.UTC)
    for text in ("gw_key", token({}), token({"exp": "soon"}), token({"exp": 1e99}), "a.b.c", token([])):
        assert _expiry(text) is None


@pytest.mark.parametrize(
    "url", ["gateway.example", "ftp://gateway.example", "https://gateway.example/path", "https://a b"]
)
def test_a_public_address_is_an_address(url):
    with pytest.raises(ConfigurationError, match="GATEWAY_PUBLIC_URL"):
        read_settings({"GATEWAY_PUBLIC_URL": url})
    assert read_settings({"GATEWAY_PUBLIC_URL": "https://gateway.example"}).public_url == "https://gateway.example"
