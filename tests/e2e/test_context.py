"""What a caller says of a request, from the `openai` client to the record, and no patient's number on the way."""

import json

import openai
import pytest
from support import Serve, Upstream, policy

MRN = "MRN-XYLOPHONE-0042"


def test_the_context_of_a_request_is_in_its_record(serve: Serve, upstream: Upstream) -> None:
    served = serve({"radiology": policy(upstream.url)}, env={"GATEWAY_LOG_LEVEL": "debug"})
    client = openai.OpenAI(base_url=served.base + "/v1", api_key=served.key(), max_retries=0)
    said = {
        "x-gateway-purpose": "TREAT",
        "x-gateway-patient": MRN,
        "x-gateway-study": f"{MRN}.1",
        "x-gateway-on-behalf-of": "dr.peeters",
        "x-gateway-task": "report-draft",
    }
    message = {"role": "user", "content": "Is there a fracture of the left wrist?"}
    records = []
    for _ in range(2):
        answer = client.chat.completions.with_raw_response.create(
            model="auto", messages=[message], extra_headers=said, user=f"user-{MRN}", metadata={"mrn": MRN}
        )
        records.append(_record(served, answer.headers["x-gateway-decision"]))
    screened = client.moderations.with_raw_response.create(input="Is this wrist broken?", extra_headers=said)
    records.append(_record(served, screened.headers["x-gateway-decision"]))
    context = records[0]["context"]
    assert (context["purpose"], context["on_behalf_of"], context["task"]) == ("TREAT", "dr.peeters", "report-draft")
    assert {record["context"]["patient"] for record in records} == {context["patient"]}
    assert {record["context"]["study"] for record in records} == {context["study"]}
    assert len({context["patient"], context["study"], context["user"]}) == 3
    assert "user" not in records[2]["context"]
    for record in records:
        assert record["where"] == records[0]["where"]
        assert record["clock"] in ("synchronised", "unsynchronised", "unknown")
        assert all(len(word["config"]) == 64 and word["threshold"] == 0.5 for word in record["screening"])
        assert record["admission"]["bounds"] == [0.3, 0.5]
    assert records[0]["left"] == len(str(upstream.answer))
    assert records[0]["attempts"][0]["injected"]["config"] != records[0]["attempts"][0]["completed"]["config"]
    assert records[2]["left"] == 0
    told = " ".join(served.run("log", "explain", records[0]["id"]).stdout.split())
    assert "Purpose of use: treatment (`TREAT`)." in told
    assert f"The patient with the pseudonym {context['patient'][:16]}…." in told
    with pytest.raises(openai.BadRequestError, match="TREAT, ETREAT") as refused:
        client.chat.completions.create(model="auto", messages=[message], extra_headers={"x-gateway-purpose": MRN})
    assert refused.value.code == "invalid_header"
    served.stop()
    assert MRN not in served.output() and MRN not in json.dumps(upstream.bodies)
    files = [path.read_bytes() for path in served.data.rglob("*") if path.is_file()]
    assert files and not any(MRN.encode() in data for data in files)


def _record(served, decision: str) -> dict:
    return json.loads(served.run("log", "explain", "--json", decision).stdout)
