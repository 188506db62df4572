"""Errors, keys and roles, health, and what must never be told or logged."""

import importlib
import logging
import pkgutil

import pytest

import gateway
from gateway import errors
from gateway.wire.errors import PROBLEMS
from gateway.wire.ids import is_decision_id, new_decision_id

PATH = "/v1/chat/completions"
BODY = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


def tree(root):
    return {root} | {found for child in root.__subclasses__() for found in tree(child)}


def own(root):
    return {kind for kind in tree(root) if kind.__module__.startswith("gateway")}


def made(kind):
    return kind("a mistake; mend it") if issubclass(kind, errors.RequestError | errors.Unavailable) else kind("marker")


def test_the_whole_tree_is_mapped():
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert own(errors.GatewayError) == set(PROBLEMS)
    for kind, problem in PROBLEMS.items():
        if issubclass(kind, errors.RequestError):
            assert (kind.status, kind.type) == (problem.status, problem.type)


@pytest.mark.parametrize("kind", sorted(own(errors.GatewayError), key=lambda kind: kind.__name__))
async def test_each_exception_is_answered_by_its_status(client, runtime, kind):
    runtime.raises = made(kind)
    answer = await client.post(PATH, json=BODY)
    assert answer.status_code == PROBLEMS[kind].status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "marker" not in answer.text


async def test_unavailable_says_when_to_come_again(client, runtime):
    runtime.raises = errors.Unavailable("the log can not be written; ask again in a moment")
    answer = await client.post(PATH, json=BODY)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["message"] == "the log can not be written; ask again in a moment"


async def test_what_nobody_foresaw_tells_and_logs_nothing(client, runtime, caplog):
    runtime.raises = ValueError("marker")
    with caplog.at_level(logging.DEBUG):
        answer = await client.post(PATH, json=BODY)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "marker" not in answer.text
    assert "marker" not in caplog.text
    assert "ValueError at" in caplog.text


async def test_nothing_of_a_request_is_logged(client, runtime, png, caplog):
    bodies = [
        BODY | {"messages": [{"role": "user", "content": "marker"}]},
        BODY | {"messages": [{"role": "user", "content": "marker fraud"}]},
        BODY | {"marker": 1},
        BODY | {"model": "marker"},
        BODY | {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "marker"}]}]},
    ]
    with caplog.at_level(logging.DEBUG):
        for body in bodies:
            await client.post(PATH, json=body)
        await client.post(PATH, content=b"marker{", headers={"content-type": "application/json"})
        await client.get("/marker")
        await client.get("/decisions/marker")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert not any("marker" in line for line in ours), ours


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", PATH, 405), ("POST", "/v1/models", 405), ("GET", "/v1", 404)],
)
async def test_wrong_addresses_under_v1_have_openais_shape(client, method, path, status):
    answer = await client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert f"`{method} {path}`" in error["message"]
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/", "/nothing", "/v10", "/decision"])
async def test_wrong_addresses_elsewhere_are_problem_details(client, path):
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["title"], body["status"]) == ("about:blank", "Not Found", 404)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic key-caller"},
        {"authorization": "key-caller"},
        {"authorization": "Bearer key-caller key-caller"},
        {"authorization": "Bearer " + "k" * 600},
        {"authorization": b"Bearer key-\xe4"},
        {"x-api-key": "key-caller"},
    ],
)
async def test_without_a_good_key_nothing_is_given(client, runtime, headers):
    del client.headers["authorization"]
    for method, path in (("POST", PATH), ("GET", "/v1/models"), ("GET", "/v1/models/auto"), ("GET", "/decisions/x")):
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        body = answer.json()
        assert (body["error"] if path.startswith("/v1") else body)["code"] == "invalid_api_key"
    assert runtime.asked == []
    assert runtime.reads == []


async def test_the_scheme_is_read_in_any_case(client):
    assert (await client.get("/v1/models", headers={"authorization": "bearer key-caller"})).status_code == 200


async def test_every_route_but_health_asks_for_a_key(client):
    del client.headers["authorization"]
    open_routes = set()
    for route in client.app.routes:
        if route.path.startswith("/console"):  # people sign in there: tests/browser
            continue
        for method in sorted(route.methods - {"OPTIONS"}):
            path = route.path.replace("{name:path}", "a").replace("{decision_id:str}", "a")
            if (await client.request(method, path)).status_code != 401:
                open_routes.add(path)
    assert open_routes == {"/healthz", "/readyz"}


ROLES = {
    "key-caller": (200, 403),
    "key-officer": (403, 404),
    "key-auditor": (403, 404),
    "key-admin": (200, 404),
    "key-none": (403, 403),
}


@pytest.mark.parametrize("key", ROLES)
async def test_roles(client, key):
    headers = {"authorization": f"Bearer {key}"}
    asking, reading = ROLES[key]
    for answer in (
        await client.post(PATH, json=BODY, headers=headers),
        await client.get("/v1/models", headers=headers),
    ):
        assert answer.status_code == asking
        if asking == 403:
            assert "needs a key with the role caller or operator or admin" in answer.json()["error"]["message"]
    answer = await client.get(f"/decisions/{new_decision_id()}", headers=headers)
    assert answer.status_code == reading
    if reading == 403:
        assert "needs a key with the role officer or auditor or admin" in answer.json()["detail"]


async def test_a_department_without_a_policy_gets_no_answer(client):
    headers = {"authorization": "Bearer key-orphan"}
    assert (await client.post(PATH, json=BODY, headers=headers)).status_code == 503
    assert (await client.get("/v1/models", headers=headers)).status_code == 503


async def test_a_decision_is_read_as_it_is_kept(client, runtime):
    decision = (await client.post(PATH, json=BODY)).headers["x-gateway-decision"]
    path = f"/decisions/{decision}"
    answer = await client.get(path, headers={"authorization": "Bearer key-officer"})
    assert answer.status_code == 200
    assert answer.content == runtime.decided[decision].bytes
    assert answer.headers["content-type"] == "application/json"
    assert (await client.get(path, headers={"authorization": "Bearer key-admin"})).status_code == 200
    elsewhere = await client.get(path, headers={"authorization": "Bearer key-elsewhere"})
    assert elsewhere.status_code == 404
    absent = await client.get(f"/decisions/{new_decision_id()}", headers={"authorization": "Bearer key-elsewhere"})
    assert {**absent.json(), "detail": ""} == {**elsewhere.json(), "detail": ""}


async def test_what_is_no_decision_id_is_not_looked_up(client, runtime):
    for name in ("x", "dec_1", "..%2f..%2fetc", "dec_" + "i" * 26, "dec_" + "0" * 27):
        answer = await client.get(f"/decisions/{name}", headers={"authorization": "Bearer key-officer"})
        assert answer.status_code == 404
    assert runtime.reads == []


def test_ids_sort_by_time_and_do_not_repeat(monkeypatch):
    now = [1_700_000_000_000_000_000]
    monkeypatch.setattr("gateway.wire.ids.time.time_ns", lambda: now[0])
    ids = []
    for _ in range(300):
        ids.append(new_decision_id())
        now[0] += 1_000_000
    assert ids == sorted(ids)
    now[0] = 1
    assert len({new_decision_id() for _ in range(300)}) == 300
    assert all(map(is_decision_id, ids))


async def test_models(client):
    del client.headers["authorization"]
    client.headers["authorization"] = "Bearer key-caller"
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [row["id"] for row in body["data"]] == ["org/model-a", "model-b", "auto"]
    for row in body["data"]:
        assert row["object"] == "model"
        assert (await client.get(f"/v1/models/{row['id']}")).json() == row
    answer = await client.get("/v1/models/model-c")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_health(client, runtime):
    del client.headers["authorization"]
    assert (await client.get("/healthz")).status_code == 200
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "checks": {"log": True, "policies": True}})
    runtime.checks = (("log", False), ("policies", True))
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "checks": {"log": False, "policies": True}})
    assert (await client.get("/healthz")).status_code == 200
    runtime.checks = ()
    assert (await client.get("/readyz")).status_code == 503
    runtime.checks = None  # a check that breaks
    assert (await client.get("/readyz")).status_code == 503


async def test_every_answer_has_the_security_headers(client):
    for method, path in (("POST", PATH), ("GET", "/v1/models"), ("GET", "/nothing"), ("GET", "/healthz")):
        answer = await client.request(method, path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
