"""What a caller says beside the body: headers and `user`, taken when well formed, kept without a patient's number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.records import NOTHING_SAID, PURPOSES, Context, Digester, pseudonym
from gateway.web.context import FIELDS, context_in

SAID = {
    "x-gateway-purpose": "TREAT",
    "x-gateway-on-behalf-of": "dr.peeters@hospital.example",
    "x-gateway-patient": "MRN 0042/77",
    "x-gateway-study": "1.2.840.113619.2.55.3",
    "x-gateway-task": "report-draft",
    "x-gateway-person": "nurse-7",
    "x-gateway-application": "ris/4.2",
}
BODY = {"model": "auto", "messages": [{"role": "user", "content": "hello there"}]}
DIGESTER = Digester(b"0" * 32)


async def ask(client, headers=None, **fields):
    return await client.post("/v1/chat/completions", json=BODY | fields, headers=headers)


def kept(runtime):
    (found,) = runtime.decided.values()
    return found


async def test_what_was_said_is_kept_as_codes_ids_and_pseudonyms(client, runtime):
    answer = await ask(client, SAID, user="u-19", metadata={"ward": "zebra-ward"})
    assert answer.status_code == 200
    found = kept(runtime)
    said = found.record.context
    assert (said.purpose, said.task, said.on_behalf_of) == ("TREAT", "report-draft", "dr.peeters@hospital.example")
    assert (said.claimed_person, said.claimed_application) == ("nurse-7", "ris/4.2")
    assert found.record.caller.person is None, "what is claimed is not what the key says"
    assert said.patient == pseudonym(DIGESTER, "patient", "MRN 0042/77")
    assert said.study == pseudonym(DIGESTER, "study", "1.2.840.113619.2.55.3")
    assert said.user == pseudonym(DIGESTER, "user", "u-19")
    for word in (b"0042", b"1.2.840", b"u-19", b"zebra", b"hello"):
        assert word not in found.bytes


async def test_nothing_said_is_nothing_kept(client, runtime):
    assert (await ask(client)).status_code == 200
    found = kept(runtime)
    assert found.record.context is None
    assert b'"context"' not in found.bytes


async def test_the_safety_identifier_counts_before_the_user(client, runtime):
    assert (await ask(client, user="one", safety_identifier="two")).status_code == 200
    assert kept(runtime).record.context.user == pseudonym(DIGESTER, "user", "two")


async def test_an_empty_user_is_none(client, runtime):
    assert (await ask(client, user="", safety_identifier=None)).status_code == 200
    assert kept(runtime).record.context is None


@pytest.mark.parametrize("user", ["a" * 257, "a\x00b", "a\nb"])
async def test_a_user_that_is_no_id_is_refused(client, runtime, user):
    answer = await ask(client, user=user)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "user"
    assert not runtime.asked


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("x-gateway-purpose", "treat", "`x-gateway-purpose` is `treat`; give a code of HL7's PurposeOfUse: TREAT, "),
        ("x-gateway-purpose", "", "`x-gateway-purpose` is empty; give a code"),
        ("x-gateway-patient", "x" * 257, "`x-gateway-patient` is not what is expected; give 1 to 256 printable ASCII"),
        ("x-gateway-patient", "Zoë", "only a keyed pseudonym of them is kept"),
        ("x-gateway-study", " ", "`x-gateway-study` is empty"),
        ("x-gateway-task", "write a report", "`x-gateway-task` is `write a report`; give a code of at most 64"),
        ("x-gateway-person", "Jane Roe", "`x-gateway-person` is not what is expected; give an id of at most 128"),
        ("x-gateway-on-behalf-of", "Jane Roe", "`x-gateway-on-behalf-of` is not what is expected"),
        ("x-gateway-application", "a" * 65, "give an id of at most 64"),
        ("x-gateway-pupose", "TREAT", "unknown header `x-gateway-pupose`; did you mean `x-gateway-purpose`?"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/moderations"])
async def test_what_is_malformed_is_refused_with_what_is_expected(client, runtime, path, name, value, told):
    body = BODY if path.endswith("completions") else {"input": "hello"}
    answer = await client.post(path, json=body, headers={name: value.encode("latin-1")})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert told in error["message"]
    assert (error["param"], error["code"]) == (name, "invalid_header")
    assert not runtime.asked
    for word in ("Jane", "Zo"):
        assert word not in error["message"]


async def test_all_purposes_are_named_to_who_gives_another(client):
    answer = await ask(client, {"x-gateway-purpose": "CURIOSITY"})
    message = answer.json()["error"]["message"]
    assert all(code in message for code in PURPOSES)
    assert {"TREAT", "HPAYMT", "HOPERAT", "HRESCH", "ETREAT"} <= set(PURPOSES)


def test_a_header_that_stands_twice_is_refused():
    twice = [(b"x-gateway-patient", b"1"), (b"x-gateway-patient", b"2")]
    with pytest.raises(InvalidRequest, match="stands twice"):
        context_in(twice)


def test_other_headers_do_not_count():
    others = [(b"x-gateway-receipt", b"yes"), (b"x-request-id", b"1"), (b"x-gateway-trace-context", b"\xff")]
    assert context_in(others) is NOTHING_SAID


@given(st.sampled_from(sorted(FIELDS)), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(name, value):
    headers = [(name.encode(), value)]
    try:
        said = context_in(headers)
    except InvalidRequest:
        with pytest.raises(InvalidRequest, match=name):
            context_in(headers)
        return
    text = getattr(said, FIELDS[name])
    assert text.isascii() and text.isprintable() and 0 < len(text) <= 256
    assert said == Context(**{FIELDS[name]: text})
