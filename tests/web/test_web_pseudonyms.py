"""From a patient's number to its pseudonym, over HTTP and at the command line: recorded, without the number."""

import asyncio
import json
import subprocess
import sys

import aiohttp
import pytest
from msgspec.structs import replace
from store.kit import SECRET, outcomes

from gateway.records import AccessV1, Context
from gateway.store import FileKey, Store

NUMBER = "MRN-XYLOPHONE-0042"


@pytest.fixture
async def served(make_runtime, serving, tmp_path):
    """A served gateway: `await served(key, body)` gives status and JSON; `served.store` is its store."""
    runtime = make_runtime()
    runtime.store = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=SECRET)
    async with serving(runtime) as base, aiohttp.ClientSession() as session:

        async def post(body, key="key-officer"):
            headers = {"authorization": f"Bearer {key}"}
            async with session.post(base + "/pseudonyms", headers=headers, json=body) as answer:
                return answer.status, await answer.json()

        post.store = runtime.store
        yield post
    await runtime.store.close()


async def looks(store):
    return [row.record for row in await store.decisions.recent(100, kind="access.v1")]


async def test_an_officer_gets_the_pseudonym_that_stands_in_records(served):
    logged = await served.store.decisions.append(replace(outcomes.refused(), context=Context(patient=NUMBER)))
    stored = await served.store.decisions.get(logged.id)
    status, body = await served({"of": "patient", "number": NUMBER, "why": "complaint 17"})
    assert (status, body) == (200, {"of": "patient", "pseudonym": stored.record.context.patient})
    [look] = await looks(served.store)
    assert isinstance(look, AccessV1)
    assert (look.action, look.endpoint, look.why, look.caller.key) == ("pseudonym", "/pseudonyms", "complaint 17", "k2")
    assert look.filter == f"patient={stored.record.context.patient}"
    assert (await served({"of": "study", "number": NUMBER}))[1]["pseudonym"] != stored.record.context.patient


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"of": "patient"}, "number"),
        ({"of": "prompt", "number": NUMBER}, "prompt"),
        ({"of": "patient", "number": " "}, "give 1 to 256 characters"),
        ({"of": "patient", "number": "1" * 257}, "give 1 to 256 characters"),
        ({"of": "patient", "number": "a\nb"}, "not printable"),
        ({"of": "patient", "number": 42}, "number"),
        ({"of": "patient", "number": NUMBER, "why": "x" * 1001}, "why"),
        ({"of": "patient", "number": NUMBER, "all": True}, "all"),
    ],
)
async def test_what_is_no_number_is_refused_and_nothing_recorded(served, body, told):
    status, problem = await served(body)
    assert status == 400
    assert told in problem["detail"]
    assert NUMBER not in json.dumps(problem)
    assert await looks(served.store) == []


@pytest.mark.parametrize(("key", "status"), [("key-caller", 403), ("key-none", 403), ("wrong", 401)])
async def test_others_are_not_told(served, key, status):
    assert (await served({"of": "patient", "number": NUMBER}, key))[0] == status
    assert await looks(served.store) == []


async def test_nobody_is_told_while_the_log_can_not_be_written(served):
    await served.store.decisions.close()
    status, problem = await served({"of": "patient", "number": NUMBER})
    assert status == 503
    assert "pseudonym" not in problem


async def test_the_command_line_gives_the_same(tmp_path):
    command = [sys.executable, "-m", "gateway.cli", "log", "pseudonym", "patient", "--why", "a hold"]
    command += ["--data-dir", str(tmp_path), "--database-url", f"sqlite:///{tmp_path}/log.sqlite3"]

    def ask(number):
        return subprocess.run(command, input=number, capture_output=True, text=True, timeout=60, check=False)

    first, again, empty = await asyncio.gather(
        *(asyncio.to_thread(ask, text) for text in (f"{NUMBER}\n", NUMBER, "\n"))
    )
    assert len(first.stdout.strip()) == 64
    assert first.stdout == again.stdout
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "give 1 to 256 characters" in empty.stderr
    assert not any(NUMBER.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    secret = bytes.fromhex((tmp_path / "secret.key").read_text())
    store = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=secret, log_key=FileKey(tmp_path / "log.key"))
    assert store.decisions.pseudonym("patient", NUMBER) == first.stdout.strip()
    assert [look.why for look in await looks(store)] == ["a hold", "a hold"]
    await store.close()
