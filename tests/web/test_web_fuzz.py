"""Random bodies: never a 5xx, never silence."""

import json

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from gateway.errors import RequestError
from gateway.wire.chat import HARMLESS, LEFT_OUT, REFUSED, TAKEN, Asked, read_chat
from gateway.wire.strict import read_object

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.sampled_from(["auto", "user", "text", "image_url", "function", "tool", "assistant", "c1", "data:,"]),
)
WORDS = ["role", "content", "name", "type", "text", "image_url", "url", "detail", "refusal", "tool_calls", "id"]
WORDS += ["tool_call_id", "function", "arguments", "index", "parameters", "strict", "json_schema", "schema"]
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=6))
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)
FIELDS = st.sampled_from([*TAKEN, *REFUSED, *LEFT_OUT, *HARMLESS, "guided_json", "other"])
PARTS = st.one_of(
    JSON,
    st.fixed_dictionaries({"type": st.just("text"), "text": SCALARS}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": JSON}),
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "x"])},
    optional={
        "content": st.one_of(st.text(max_size=8), st.lists(PARTS, max_size=3), JSON),
        "tool_calls": JSON,
        "tool_call_id": SCALARS,
        "name": SCALARS,
        "refusal": SCALARS,
    },
)
BODIES = st.one_of(
    JSON,
    st.dictionaries(FIELDS, JSON, max_size=6),
    st.fixed_dictionaries(
        {"model": st.sampled_from(["auto", "a"]), "messages": st.lists(MESSAGES, max_size=4)},
        optional={name: JSON for name in TAKEN if name not in ("model", "messages")},
    ),
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def decide(raw):
    """Read a body; give what was asked, or the message of the refusal."""
    try:
        return read_chat(read_object(raw), id="dec_x", department="radiology", models=("a", "b"))
    except RequestError as exc:
        return exc.message


@quick
@given(BODIES)
def test_a_body_is_read_or_refused(body):
    found = decide(json.dumps(body).encode())
    if isinstance(found, str):
        assert 20 < len(found.encode()) < 1500
        return
    assert isinstance(found, Asked)
    assert found.bare.turns == ()
    ids = [part.id for draft in found.drafts for part in draft.parts]
    assert len(ids) == len(set(ids))
    assert all(id_.startswith("messages[") for id_ in ids)


@quick
@given(st.binary(max_size=60))
def test_bytes_are_read_or_refused(raw):
    assert isinstance(decide(raw), str)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
async def test_no_body_gets_a_5xx(client, body):
    raw = json.dumps(body).encode()
    answer = await client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code < 500 or answer.status_code in (502, 504)
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
