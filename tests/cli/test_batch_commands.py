"""`gateway batch`: submit, results, list, show; and every failure in one line."""

import asyncio
import collections
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cli.kit import LIMIT
from store.batching import line_of

from gateway.cli.batch_client import Client
from gateway.cli.batch_failures import Failed
from gateway.cli.batch_seen import seen_of
from gateway.cli.batch_watch import looks
from gateway.records import DecisionV1
from gateway.store import BatchError

ID = re.compile(r"batch_[0-9a-f]{32}\n")


def chat(number: int, **more: object) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": f"What is shown in image {number}?"}]}
    line = {"custom_id": f"case-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line | more)


def files_of(gateway) -> int:
    return len(gateway.do(gateway.store.files.list("radiology", purpose="batch", limit=1000)))


def test_a_night_from_the_file_to_the_answers(gateway, tmp_path: Path) -> None:
    night, out = tmp_path / "night.jsonl", tmp_path / "out"
    lines = [*map(chat, range(8)), "{broken", chat(3), chat(9, url="/v1/moderations")]
    night.write_text("\n".join(lines) + "\n")
    made = gateway.batch("submit", str(night), "--metadata", "ward=night", "--task", "report-draft")
    assert ID.fullmatch(made.stdout), "the id alone, so that a script can use it"
    assert f"gateway batch watch {made.stdout.strip()}" in made.stderr
    batch = made.stdout.strip()
    early = gateway.batch("results", batch, code=1)
    assert early.stderr.startswith("error: the batch is reading the file; ") and early.stdout == ""

    gateway.work()
    watched = gateway.batch("watch", batch, code=3)
    assert watched.stderr == "" and "\x1b" not in watched.stdout
    assert "completed: 11 of 11 lines (100 %); answered 8, invalid 3" in watched.stdout
    told = dict(re.findall(r"^ (\w+) +(\d+) +[\d.]+ %", watched.stdout, re.MULTILINE))
    assert told == {"answered": "8", "refused": "0", "withheld": "0", "failed": "0", "invalid": "3"}
    records = [stored.record for stored in gateway.do(gateway.store.decisions.recent(1000))]
    logged = collections.Counter(
        record.outcome
        for record in records
        if isinstance(record, DecisionV1) and getattr(record.batch, "batch", "") == batch
    )
    assert logged == {"released": 8}, "the summary agrees with the log"

    seen = json.loads(gateway.batch("watch", batch, "--json", code=3).stdout)
    assert seen["request_counts"] == {"total": 11, "completed": 8, "failed": 3}
    fetched = gateway.batch("results", batch, "--out", str(out), "--why", "morning round")
    assert "11 lines: 8 answered, 3 invalid" in fetched.stdout
    good, bad = (out / f"{batch}_{kind}.jsonl" for kind in ("output", "errors"))
    assert sorted(path.name for path in out.iterdir()) == sorted((good.name, bad.name)), "no part is left"
    assert {path.stat().st_mode & 0o777 for path in (good, bad)} == {0o600}, "answers are their owner's alone"
    ids = [json.loads(line)["custom_id"] for path in (good, bad) for line in path.read_text().splitlines()]
    assert sorted(filter(None, ids)) == sorted(f"case-{n}" for n in (*range(8), 9)) and ids.count(None) == 2

    before = good.read_bytes()
    again = gateway.batch("results", batch, "--out", str(out), code=1)
    assert again.stderr == f"error: {good}: is there; name another folder with --out, or overwrite it with --force\n"
    gateway.batch("results", batch, "--out", str(out), "--force", "--format", "fhir")
    assert good.read_bytes() == before
    reports = (out / f"{batch}_reports.ndjson").read_text().splitlines()
    assert len(reports) == 8 and {json.loads(one)["resourceType"] for one in reports} == {"DiagnosticReport"}
    assert len(list(out.iterdir())) == 3, "the input, which tells whose each answer is, does not stay"

    other = gateway.make_key("caller")
    assert (
        "there is no file"
        in gateway.batch("results", batch, "--out", str(out / "x"), code=1, GATEWAY_API_KEY=other).stderr
    )


def test_a_submit_that_is_repeated_makes_no_second_batch(gateway, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(line_of(1))
    first = gateway.batch("submit", str(file)).stdout.strip()
    kept = files_of(gateway)
    repeated = gateway.batch("submit", str(file))
    assert repeated.stdout.strip() == first and "--again makes one" in repeated.stderr
    assert gateway.batch("submit", "-", stdin=line_of(1)).stdout.strip() == first, "what is the same, wherever from"
    assert files_of(gateway) == kept, "a file that no batch reads is not kept"

    others = [
        gateway.batch("submit", str(file), *words).stdout.strip()
        for words in (["--again"], ["--metadata", "run=2"], ["--purpose", "TREAT"], ["--priority=-1"])
    ]
    others.append(gateway.batch("submit", str(file), GATEWAY_API_KEY=gateway.make_key("caller")).stdout.strip())
    assert len({first, *others}) == 6, "other words, or another key, make another batch"

    gateway.batch("cancel", first)
    second = gateway.batch("submit", str(file)).stdout.strip()
    assert second not in (first, *others), "what was cancelled can be submitted anew"
    assert gateway.batch("submit", str(file)).stdout.strip() == second

    every = [row["id"] for row in json.loads(gateway.batch("list", "--json", "--limit", "1000").stdout)]
    assert every[0] == second and set(others) < set(every)
    page = gateway.batch("list", "--limit", "2").stdout
    assert all(id_ in page for id_ in every[:2]) and f"older ones: --after {every[1]}\n" in page
    assert json.loads(gateway.batch("list", "--json", "--after", every[1], "--limit", "1").stdout)[0]["id"] == every[2]
    shown = gateway.batch("show", others[1]).stdout
    assert "run=2" in shown and "reading the file" in shown


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        (["list"], {"GATEWAY_URL": "http://127.0.0.1:9"}, "is not reachable at http://127.0.0.1:9: is `gateway serve`"),
        (["list", "--url", "gateway:8080"], {}, "`gateway:8080` is no address; give the gateway's address"),
        (["list", "--url", "http://me:secret@h"], {}, "the address holds a user or a password"),
        (["list"], {"GATEWAY_API_KEY": ""}, "there is no API key; set GATEWAY_API_KEY"),
        (["list"], {"GATEWAY_API_KEY": "a b"}, "GATEWAY_API_KEY: holds no API key"),
        (["list", "--key-file", "nowhere"], {}, "nowhere: can not be read (no such file or directory)"),
        (["list"], {"GATEWAY_API_KEY": "gw_wrong"}, "the API key is unknown or revoked"),
        (["show", "batch_" + "0" * 32], {}, "there is no batch `batch_000"),
        (["show", "../files"], {}, "`../files` is no id of a batch; `gateway batch list` shows them"),
        (["watch", "batch_" + "0" * 32], {}, "there is no batch `batch_000"),
        (["submit", "nowhere.jsonl"], {}, "nowhere.jsonl: can not be read (no such file or directory)"),
        (["submit", "/dev/null"], {}, "`file` is empty; send a file with one request a line"),
        (["submit", __file__, "--priority", "5"], {}, "a `priority` above 0 needs a key with the role"),
        (["submit", __file__, "--task", "a b"], {}, "`--task` is `a b`; give a code of at most 64"),
        (["submit", __file__, "--purpose", "FUN"], {}, "`--purpose` is `FUN`; give a code of HL7's"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_one_line(gateway, words: list[str], env: dict[str, str], told: str) -> None:
    found = gateway.batch(*words, code=1, **env)
    *before, last = found.stderr.splitlines()
    assert found.stdout == "" and last.startswith("error: ") and told in last, found.stderr
    assert all(line.startswith("sent ") for line in before), found.stderr
    assert "secret" not in last


def test_what_may_not_be_done_and_what_is_too_large(gateway, tmp_path: Path) -> None:
    officer = gateway.make_key("officer")
    assert "to batch needs a key with the role" in gateway.batch("list", code=1, GATEWAY_API_KEY=officer).stderr
    spent = gateway.make_key("caller", per_day=1)
    gateway.batch("list", GATEWAY_API_KEY=spent)
    limited = gateway.batch("list", code=1, GATEWAY_API_KEY=spent).stderr
    assert limited.startswith("error: ") and len(limited.splitlines()) == 1, "a day is not waited for"

    large = tmp_path / "large.jsonl"
    large.write_bytes(b"x" * 20_000_000)  # far more than is in flight when the answer comes
    for words, stdin in ((["submit", str(large)], None), (["submit", "-"], large.read_bytes())):
        told = gateway.batch(*words, code=1, stdin=stdin)
        assert told.stderr.startswith(f"error: the file is over {LIMIT} bytes; split it"), told.stderr
    kept = files_of(gateway)

    batch = gateway.submit(tmp_path / "lines.jsonl", 1)
    error = BatchError(code="empty_file", message="the file holds no line; give one JSON object on each line")

    async def fail() -> None:
        await gateway.store.batches.fail(await gateway.claim(batch, "validate"), [error])

    gateway.do(fail())
    ended = gateway.batch("watch", batch, code=4).stdout
    assert "empty_file" in ended and "the file holds no line" in ended
    assert "the batch has no files" in gateway.batch("results", batch, code=1).stderr
    assert "has ended: it is failed" in gateway.batch("cancel", batch, code=1).stderr
    assert files_of(gateway) == kept + 1, "of what is too large nothing is kept"


class Between:
    """A proxy before the gateway that holds events back, and now and then asks to wait or breaks a connection."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.asked: list[str] = []
        self.waits = self.breaks = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.endswith("/events"):
            return web.Response(status=404, text="<html>no such page</html>", content_type="text/html")
        if self.waits:
            self.waits -= 1
            body = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded", "param": None}}
            return web.json_response(body, status=429, headers={"retry-after": "1"})
        if self.breaks and request.method == "POST" and request.path == "/v1/batches":
            self.breaks -= 1
            await self._pass(request)
            request.transport.abort()  # the batch is made, and nobody hears of it
        return await self._pass(request)

    async def _pass(self, request: web.Request) -> web.Response:
        names = ("authorization", "content-type", "idempotency-key")
        headers = {name: value for name, value in request.headers.items() if name.lower() in names}
        asked = {"headers": headers, "data": await request.read()}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self.base + request.path_qs, **asked) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


@pytest.fixture
async def between(gateway) -> AsyncIterator[tuple[Between, str]]:
    proxy = Between(gateway.base)
    runner = web.ServerRunner(web.Server(proxy))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield proxy, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    await runner.cleanup()


async def test_a_lost_answer_and_a_wish_to_wait(gateway, between, tmp_path: Path) -> None:
    proxy, url = between
    proxy.breaks = proxy.waits = 1
    file = tmp_path / "lost.jsonl"
    file.write_bytes(line_of(7))
    made = await asyncio.to_thread(gateway.batch, "submit", str(file), "--url", url)
    assert ID.fullmatch(made.stdout) and proxy.asked.count("/v1/batches") == 4, "a look, after a wait; made, and again"
    assert "the gateway asks to wait 1 s: slow down" in made.stderr
    assert "was lost; trying again" in made.stderr
    newest, older = await gateway.ask(gateway.store.batches.list("radiology", limit=2))
    assert newest.id == made.stdout.strip() and older.input_file != newest.input_file, "it was made once"


async def test_watching_where_no_events_come(gateway, between, tmp_path: Path, monkeypatch) -> None:
    proxy, url = between
    monkeypatch.setattr("gateway.cli.batch_watch._POLL", 0.05)
    batch = await asyncio.to_thread(gateway.submit, tmp_path / "lines.jsonl", 1)
    await asyncio.to_thread(gateway.validated, batch, 1, 1)
    monkeypatch.setenv("GATEWAY_API_KEY", gateway.key)
    async with Client(url, None) as client:
        first = seen_of(await client.get(f"v1/batches/{batch}"))
        done = []
        async for seen in looks(client, first, pytest.fail):
            if seen.done not in done:
                done.append(seen.done)
                if seen.done < 1:
                    await asyncio.to_thread(gateway.answer, batch, "released")
                else:
                    await asyncio.to_thread(gateway.finish, batch)
    assert seen.status == "completed" and done == [0, 1]
    assert proxy.asked.count(f"/v1/batches/{batch}/events") == 1, "it asks for events again only later"


async def test_what_is_no_gateway(between, monkeypatch) -> None:
    _, url = between
    monkeypatch.setenv("GATEWAY_API_KEY", "any")
    with pytest.raises(Failed, match="answers with status 404, and not as a gateway does; check --url"):
        async with Client(url, None) as client:
            await client.get("v1/batches/batch_0/events")
