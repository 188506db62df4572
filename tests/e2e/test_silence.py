"""Silence is no: a stage that breaks, hangs or returns nonsense refuses, and the record says how."""

import json

import pytest
from support import Serve, faulty_policy

HOW = {
    "raises": "raised:ValueError",
    "hangs": "deadline",
    "stubborn": "deadline",
    "blocks": "deadline",
    "nothing": "nothing",
    "exits": "exited",
    "nonsense": "nonsense",
}


@pytest.mark.parametrize("kind", ["screen", "inject", "model", "audit"])
def test_broken_stage_never_answers_and_is_told(kind: str, serve: Serve, faulty: dict[str, str]) -> None:
    policies = {
        f"dept-{how}": faulty_policy(**{kind: how}).replace("department: radiology", f"department: dept-{how}")
        for how in HOW
    }
    policies["radiology"] = faulty_policy()
    served = serve(policies, env=faulty)
    status, headers, body = served.chat("hello", served.key())
    assert (status, headers["x-gateway-outcome"]) == (200, "released"), body
    for how, cause in HOW.items():
        key = served.key("caller", "officer", department=f"dept-{how}")
        status, headers, body = served.chat("hello", key)
        assert headers["x-gateway-outcome"] in ("refused", "withheld"), how
        assert "calm answer" not in str(body)
        if kind == "model":
            assert status in (502, 504)
        else:
            assert status == 200 and body["choices"][0]["finish_reason"] == "content_filter"
        record = served.get(f"/decisions/{headers['x-gateway-decision']}", key)[2]
        assert f'"cause": "{cause}' in json.dumps(record), record
    told = served.run("log", "explain", headers["x-gateway-decision"]).stdout
    assert "faulty" in told and "failed" in told.lower(), told
    assert "MARKER-IN-EXCEPTION" not in served.output()
    assert served.chat("hello", served.key())[0] == 200, "the gateway still serves"
