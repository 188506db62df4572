"""Who is let in over HTTP: roles against every route there is, late keys, and tokens of a provider that runs."""

import asyncio
import json
import os
import subprocess
import textwrap

import pytest
from identity.kit import AUDIENCE, NAME, OTHER, Idp, In, claims, sign
from litestar.testing import AsyncTestClient
from support import GATEWAY, ROOT, faulty_policy

from gateway.errors import NotAuthenticated, NotPermitted, Unavailable
from gateway.identity.limiter import Limiter
from gateway.identity.rates import Rate
from gateway.records import ROLES, Caller, may
from gateway.web.app import create_app

OPEN = {"/healthz", "/readyz"}

NEEDS = {
    "POST /v1/chat/completions": "ask",
    "POST /v1/moderations": "ask",
    "GET /v1/models": "ask",
    "GET /v1/models/x": "ask",
    "GET /v1/files": "batch",
    "POST /v1/files": "batch",
    "GET /v1/files/x": "batch",
    "DELETE /v1/files/x": "batch",
    "GET /v1/files/x/content": "batch",
    "GET /v1/batches": "batch",
    "POST /v1/batches": "batch",
    "GET /v1/batches/x": "batch",
    "GET /v1/batches/x/events": "batch",
    "POST /v1/batches/x/cancel": "batch",
    "POST /v1/batches/x/pause": "batch",
    "POST /v1/batches/x/resume": "batch",
    "GET /decisions": "search",
    "GET /decisions/facets": "search",
    "GET /decisions/x": "read",
    "GET /decisions/x/about": "read",
    "GET /decisions/x/content": "reveal",
    "POST /decisions/x/reveal": "reveal",
    "GET /decisions/x/reviews": "read",
    "POST /decisions/x/reviews": "review",
    "GET /reviews": "review",
    "GET /reviews/figures": "figures",
    "POST /exports": "export",
    "GET /holds": "hold",
    "POST /holds": "hold",
    "POST /holds/x/request-release": "hold",
    "POST /holds/x/release": "hold",
    "POST /erasures": "erase",
    "POST /pseudonyms": "search",
    "POST /break-glass": "break-glass",
    "GET /log/checkpoint": "verify",
    "GET /log/keys": "verify",
    "GET /keys": "keys",
    "POST /keys": "keys",
    "POST /keys/x/rotate": "keys",
    "POST /keys/x/revoke": "keys",
}
"""What each route needs. A new one gets its line here."""

EITHER = {"GET /decisions/x/proof": ("verify", "read")}


def routes(app):
    """Every route that asks for a key, as a request to it."""
    for route in app.routes:
        if route.path in OPEN or route.path.startswith("/console"):
            continue
        parts = ["x" if part.startswith("{") else part for part in route.path.split("/")]
        for method in sorted(getattr(route, "methods", ()) or ()):
            if method not in ("OPTIONS", "HEAD"):
                yield f"{method} {'/'.join(parts)}"


@pytest.fixture
async def door(runtime):
    """A client whose token is a caller, written as JSON: roles, and what narrows them."""

    async def authenticate(token):
        return Caller(key="k", department="radiology", **{n: tuple(v) for n, v in json.loads(token).items()})

    runtime.authenticate = authenticate
    async with AsyncTestClient(create_app(runtime), raise_server_exceptions=False) as client:

        async def ask(place, **caller):
            method, path = place.split(" ")
            token = json.dumps(caller, separators=(",", ":"))
            body = {"json": {}} if method == "POST" else {}
            return (
                await client.request(method, path, headers={"authorization": f"Bearer {token}"}, **body)
            ).status_code

        ask.routes = sorted(routes(client.app))
        yield ask


def expected(place, **caller):
    who = Caller(key="k", department="radiology", **caller)
    return any(may(who, need) for need in EITHER.get(place, (NEEDS.get(place),)))


async def test_every_route_is_in_the_table(door):
    assert set(door.routes) <= {*NEEDS, *EITHER}


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_opens_what_it_needs_and_nothing_else(door, role):
    """Least privilege, over the routes themselves: what is allowed goes on to be looked at, all else is a 403."""
    for place in door.routes:
        allowed = await door(place, roles=[role]) not in (401, 403)
        assert allowed == expected(place, roles=(role,)), place


async def test_no_role_opens_nothing(door):
    assert {await door(place, roles=[]) for place in door.routes} == {403}
    assert {await door(place, roles=["king"]) for place in door.routes} == {403}


@pytest.mark.parametrize("scope", ["read", "search", "verify"])
async def test_scopes_close_what_the_role_opens(door, scope):
    for place in door.routes:
        allowed = await door(place, roles=["officer"], scopes=[scope]) not in (401, 403)
        assert allowed == expected(place, roles=("officer",), scopes=(scope,)), place


@pytest.fixture
async def asking(runtime):
    """Ask with a token; who it is, or what is raised, is told by `runtime.says`."""

    async def authenticate(token):
        if isinstance(runtime.says, Exception):
            raise runtime.says
        return runtime.says

    runtime.authenticate = authenticate
    runtime.limits = Limiter(failures=Rate(3, "minute"))
    async with AsyncTestClient(create_app(runtime), raise_server_exceptions=False) as client:
        yield lambda token="t": client.get("/v1/models", headers={"authorization": f"Bearer {token}"})


async def test_what_is_told_of_a_key(runtime, asking):
    runtime.says = None
    answer = await asking("unknown")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "unknown or revoked" in answer.json()["error"]["message"]
    runtime.says = NotAuthenticated("the API key expired at noon; ask for a new one", code="expired_api_key")
    for _ in range(10):
        answer = await asking("late")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "expired_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    runtime.says = NotPermitted("your token gives no role", code="insufficient_permissions")
    assert (await asking("no-role")).status_code == 403
    runtime.says = Unavailable("the keys of the identity provider can not be had")
    for _ in range(10):
        assert (await asking("away")).status_code == 503
    runtime.says = NotAuthenticated("not one that this gateway takes", code="invalid_token")
    assert [(await asking(f"wrong-{n}")).status_code for n in range(4)] == [401, 401, 429, 429]


async def test_a_token_of_8_kib_is_looked_at_and_a_longer_one_is_not(runtime, asking):
    runtime.says = Caller(key="k", department="radiology", roles=("caller",))
    assert (await asking("t" * 8192)).status_code == 200
    assert (await asking("t" * 8193)).status_code == 401


IDENTITY = """
issuers:
  - id: hospital
    issuer: {issuer}
    audience: {audience}
    jwks_url: {url}
    person: preferred_username
    single_use: {single_use}
    rules:
      - {{claim: groups, has: gw-radiology-officers, gives: {{department: radiology, roles: [officer]}}}}
      - {{claim: groups, has: gw-radiology, gives: {{department: radiology, roles: [caller]}}}}
"""


async def test_a_served_gateway_lets_in_who_signed_in_elsewhere(serve, faulty, tmp_path):
    """From the provider's signature to the record: the person who asked stands in the log."""
    async with Idp().serving() as idp:
        file = tmp_path / "identity.yaml"
        text = IDENTITY.format(issuer=NAME, audience=AUDIENCE, url=idp.url, single_use="false")
        file.write_text(textwrap.dedent(text))
        env = faulty | {"GATEWAY_IDENTITY": str(file), "GATEWAY_LIMIT_KEY": "100/minute"}
        served = await asyncio.to_thread(serve, {"radiology": faulty_policy()}, env)
        token = sign(claims())
        status, headers, _ = await asyncio.to_thread(served.chat, "is there a fracture?", token)
        assert status == 200
        assert headers["x-ratelimit-remaining-requests"] == "99"
        status, _, record = await asyncio.to_thread(served.get, f"/decisions/{headers['x-gateway-decision']}", token)
        assert status == 200
        assert record["caller"]["key"] == "oidc:hospital:3f1c7d52-ada"
        assert (record["caller"]["person"], record["caller"]["via"]) == ("ada", "oidc")
        assert record["caller"]["application"] == "reading-room"
        forged = sign(claims(sub="root"), OTHER)
        late = sign(claims(exp=In(-600)))
        for bad, code in ((forged, "invalid_token"), (late, "expired_token")):
            status, _, body = await asyncio.to_thread(served.chat, "hello", bad)
            assert (status, body["error"]["code"]) == (401, code)
        status, _, body = await asyncio.to_thread(served.chat, "hello", sign(claims(groups=["staff"])))
        assert status == 403
        assert (await asyncio.to_thread(served.get, "/keys", token))[0] == 403
        key = await asyncio.to_thread(served.key)
        assert (await asyncio.to_thread(served.chat, "hello", key))[0] == 200, "API keys go on beside tokens"
        output = served.output()
        assert not any(part in output for each in (token, forged, late, key) for part in (each, each[-40:]))


def test_a_wrong_identity_file_stops_the_start_with_every_mistake(tmp_path):
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY.format(issuer=NAME, audience=AUDIENCE, url="http://login.example/certs", single_use="7"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
        "GATEWAY_IDENTITY": str(file),
        "GATEWAY_DATA_DIR": str(tmp_path / "data"),
        "GATEWAY_POLICIES_DIR": str(ROOT / "policies"),
        "GATEWAY_PORT": "0",
    }
    done = subprocess.run([*GATEWAY, "serve"], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"{file}:6: issuers[0].jwks_url: keys are fetched by https" in done.stderr
    assert f"{file}:8: issuers[0].single_use: expected `true` or `false`" in done.stderr
