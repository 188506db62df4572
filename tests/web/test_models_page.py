"""`GET /v1/models` over the runtime that policies and plugins make: what a department may use, by which name."""

from __future__ import annotations

import contextlib
import types

import aiohttp
import pytest
from support import faulty_policy

from gateway.bootstrap import bootstrap
from gateway.errors import Unavailable
from gateway.pipeline.built import Served
from gateway.settings import read_settings

MODELS = """\
backend: {{stage: openai, config: {{base_url: "{url}", model: org/medgemma-4b}}}}
models:
  medgemma:27b:
    stage: openai
    context: 4096
    config: {{base_url: "{url}", model: org/medgemma-27b, context: 8192}}
  org/fine: {{stage: openai, config: {{base_url: "{url}", model: org/fine, context: 2048}}}}
"""


def policy(url: str, department: str, models: str = MODELS) -> str:
    kept = [line for line in faulty_policy().splitlines() if not line.startswith(("backend:", "department:"))]
    return "\n".join([*kept, f"department: {department}", models.format(url=url)])


@pytest.fixture
async def gateway(tmp_path, faulty, monkeypatch, upstream, serving):
    """Serve a gateway of two departments over the scripted upstream; the second has one model."""
    monkeypatch.syspath_prepend(faulty["PYTHONPATH"])
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "radiology.yaml").write_text(policy(upstream.url, "radiology"))
    alone = MODELS.partition("models:")[0].replace("medgemma-4b", "other")
    (tmp_path / "policies" / "pathology.yaml").write_text(policy(upstream.url, "pathology", alone))
    given = {"GATEWAY_DATA_DIR": str(tmp_path / "data"), "GATEWAY_POLICIES_DIR": str(tmp_path / "policies")}
    runtime = await bootstrap(read_settings(given), sequencing=False)
    async with contextlib.AsyncExitStack() as stack:
        base = await stack.enter_async_context(serving(runtime))  # closes the runtime at its end
        session = await stack.enter_async_context(aiohttp.ClientSession())
        keys = {name: (await runtime.store.keys.create(name, ("caller",)))[1] for name in ("radiology", "pathology")}

        async def call(path, department="radiology", body=None):
            headers = {"authorization": f"Bearer {keys[department]}"}
            async with session.request("POST" if body else "GET", base + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json(), answer.headers

        yield types.SimpleNamespace(runtime=runtime, base=base, keys=keys, call=call)


async def test_a_department_sees_its_models_with_what_is_known_of_them(gateway):
    status, body, _ = await gateway.call("/v1/models")
    assert (status, body["object"]) == (200, "list")
    rows = {row["id"]: row for row in body["data"]}
    assert list(rows) == ["org/medgemma-4b", "medgemma:27b", "org/fine", "auto"]
    for row in rows.values():
        assert (row["object"], row["owned_by"], row["parent"]) == ("model", "medvlm-gateway", None)
        assert type(row["created"]) is int
        assert (await gateway.call(f"/v1/models/{row['id']}"))[1] == row
    assert {name: row["root"] for name, row in rows.items()} == {
        "org/medgemma-4b": "org/medgemma-4b",
        "medgemma:27b": "org/medgemma-27b",
        "org/fine": "org/fine",
        "auto": "org/medgemma-4b",
    }
    told = {name: row["max_model_len"] for name, row in rows.items() if "max_model_len" in row}
    assert told == {"medgemma:27b": 4096, "org/fine": 2048}, "the smaller context, and none where nobody knows"


async def test_a_department_sees_no_other_departments_models(gateway):
    _, body, _ = await gateway.call("/v1/models", "pathology")
    assert [row["id"] for row in body["data"]] == ["org/other", "auto"]
    status, body, _ = await gateway.call("/v1/models/medgemma:27b", "pathology")
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", "model")
    assert "`org/other`, `auto`" in body["error"]["message"] and "org/fine" not in body["error"]["message"]


async def test_every_model_of_the_page_can_be_asked_and_no_other(gateway, upstream):
    async def ask(model):
        body = {"model": model, "messages": [{"role": "user", "content": "Is there a fracture?"}]}
        return await gateway.call("/v1/chat/completions", body=body)

    for row in (await gateway.call("/v1/models"))[1]["data"]:
        status, body, headers = await ask(row["id"])
        assert status == 200, body
        assert upstream.bodies[-1]["model"] == row["root"]
        stored = await gateway.runtime.store.decisions.get(headers["x-gateway-decision"])
        asked_for = "org/medgemma-4b" if row["id"] == "auto" else row["id"]
        assert stored.record.model == body["model"] == asked_for
    count = len(upstream.bodies)
    status, body, _ = await ask("org/medgemma-27b")
    assert (status, body["error"]["code"]) == (404, "model_not_found"), "it is asked by its name in the policy"
    assert len(upstream.bodies) == count


async def test_the_openai_client_reads_the_page(gateway):
    from openai import AsyncOpenAI  # takes a second, which few tests need

    async with AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=gateway.keys["radiology"], max_retries=0) as client:
        found = [model.id async for model in client.models.list()]
        assert found == ["org/medgemma-4b", "medgemma:27b", "org/fine", "auto"]
        one = await client.models.retrieve("medgemma:27b")
        assert (one.id, one.root, one.max_model_len) == ("medgemma:27b", "org/medgemma-27b", 4096)


async def test_the_runtime_tells_of_models_and_of_departments_without_a_policy(gateway):
    runtime = gateway.runtime
    assert runtime.served("pathology") == (Served(name="org/other", root="org/other"),)
    assert runtime.upstream("radiology", "medgemma:27b") is not runtime.upstream("radiology")
    assert runtime.upstream("radiology", "org/medgemma-4b") is runtime.upstream("radiology")
    with pytest.raises(Unavailable, match="no policy covers the department `closed`"):
        runtime.served("closed")
