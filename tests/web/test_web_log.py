"""The log's tree over HTTP: receipts, checkpoints, keys and proofs, over a real store."""

import contextlib
import json

import aiohttp
import pytest
from store.kit import SECRET, outcomes

from gateway.records import merkle
from gateway.records.note import parse_head, parse_note, parse_vkey
from gateway.store import Store


@pytest.fixture
async def log(make_runtime, serving, tmp_path):
    """`await log(path, key)` gives status and body over a socket; `log.store` is the store."""
    runtime = make_runtime()
    runtime.store = await Store.open(f"sqlite:///{tmp_path}/log.sqlite3", secret=SECRET)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runtime.store.close)
        base = await stack.enter_async_context(serving(runtime))
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def get(path, key="key-officer"):
            async with session.get(base + path, headers={"authorization": f"Bearer {key}"}) as answer:
                return answer.status, await answer.text()

        get.store = runtime.store
        yield get


async def test_a_proof_leads_from_the_receipt_to_a_signed_root(log):
    ids = [(await log.store.decisions.append(outcomes.refused())).id for _ in range(3)]
    status, text = await log(f"/decisions/{ids[1]}/proof")
    proof = json.loads(text)
    assert (status, proof["position"], proof["size"]) == (200, 1, 4), "the look at it has its place as well"
    stored = await log.store.decisions.get(ids[1])
    note = parse_note(proof["checkpoint"])
    head = parse_head(note.text)
    path = [bytes.fromhex(one) for one in proof["path"]]
    assert note.signed_by(parse_vkey(proof["keys"][0]["vkey"]))
    assert merkle.verify_inclusion(merkle.leaf_hash(stored.bytes), 1, head.size, path, head.root)
    (access,) = await log.store.decisions.recent(2, kind="access.v1")
    assert (access.record.action, access.record.decisions, access.record.caller.key) == ("verify", (ids[1],), "k2")


async def test_who_may_not_see_a_decision_gets_no_proof_of_it(log):
    (one,) = [(await log.store.decisions.append(outcomes.refused())).id]
    assert (await log(f"/decisions/{one}/proof", "key-caller"))[0] == 403
    elsewhere = await log(f"/decisions/{one}/proof", "key-elsewhere")
    unknown = await log("/decisions/dec_" + "0" * 26 + "/proof", "key-officer")
    assert (elsewhere[0], unknown[0]) == (404, 404)
    assert (await log("/decisions/x'--/proof"))[0] == 404
    assert await log.store.decisions.recent(9, kind="access.v1") == ()


async def test_checkpoint_and_keys(log):
    assert (await log("/log/checkpoint"))[0] == 404
    await log.store.decisions.append(outcomes.refused())
    await log.store.sequencer.catch_up()
    status, note = await log("/log/checkpoint", "key-auditor")
    assert (status, note) == (200, (await log.store.tree.checkpoint()).note)
    status, text = await log("/log/keys")
    (key,) = json.loads(text)
    assert (status, key["number"], key["vkey"], key["note"]) == (200, 1, log.store.signer.vkey, None)
    for path in ("/log/checkpoint", "/log/keys"):
        assert (await log(path, "key-caller"))[0] == 403
        assert (await log(path, "key-nobody"))[0] == 401


async def test_answers_carry_receipts(client, runtime):
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    answer = await client.post("/v1/chat/completions", json=body)
    made = runtime.decided[answer.headers["x-gateway-decision"]]
    assert answer.headers["x-gateway-leaf"] == merkle.leaf_hash(made.bytes).hex()
