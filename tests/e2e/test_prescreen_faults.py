"""Each built-in pre-screener, late or unplugged: the policy refuses, and the log tells of it."""

import base64
import io
import random

import pytest
from PIL import Image as Picture
from support import Serve, Upstream, policy

QUESTION = "Which of these findings on the CT angiogram, " + "in this patient with chest pain, " * 12 + "is urgent?"
STAGES = ("intent", "image-text", "modality", "perturbation")


def noise(seed: int) -> dict[str, object]:
    """Make an image that no stage has seen before."""
    picture = Picture.frombytes("L", (256, 256), random.Random(seed).randbytes(256 * 256))
    held = io.BytesIO()
    picture.save(held, "PNG")
    url = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def prescreen(late: str, *, excused: bool = False) -> str:
    """Write the pre-screeners of a policy, of which one is given no time."""
    specs = []
    for stage in STAGES:
        deadline = "1ms" if stage == late else "30s"
        excuse = ", allow_if_unavailable: true" if excused and stage == late else ""
        specs.append(f"{{stage: {stage}, deadline: {deadline}{excuse}}}")
    return f"[{', '.join(specs)}]"


def test_a_late_stage_refuses_and_is_told(serve: Serve, upstream: Upstream) -> None:
    policies = {"radiology": policy(upstream.url, prescreen=prescreen(""))}
    for stage in STAGES:
        for name, excused in ((f"late-{stage}", False), (f"excused-{stage}", True)):
            text = policy(upstream.url, prescreen=prescreen(stage, excused=excused))
            policies[name] = text.replace("department: radiology", f"department: {name}")
    served = serve(policies)
    asked = [{"type": "text", "text": QUESTION}, noise(0)]
    status, headers, _ = served.chat(asked, served.key())
    assert (status, headers["x-gateway-outcome"]) == (200, "released"), "in time, they let it pass"
    for place, stage in enumerate(STAGES):
        before = len(upstream.bodies)
        asked = [{"type": "text", "text": f"{QUESTION} ({place})"}, noise(10 + place)]
        key = served.key("caller", "officer", department=f"late-{stage}")
        _, headers, body = served.chat(asked, key)
        assert headers["x-gateway-outcome"] == "refused", stage
        assert body["choices"][0]["finish_reason"] == "content_filter"
        assert len(upstream.bodies) == before, "no model was asked"
        told = " ".join(served.run("log", "explain", headers["x-gateway-decision"]).stdout.split())
        assert "it did not answer within its deadline" in told and f"the check `{stage}` failed" in told

        key = served.key("caller", "officer", department=f"excused-{stage}")
        asked = [{"type": "text", "text": f"{QUESTION} (again {place})"}, noise(20 + place)]
        _, headers, _ = served.chat(asked, key)
        told = " ".join(served.run("log", "explain", headers["x-gateway-decision"]).stdout.split())
        assert "FAILED" in told and stage in told
        if headers["x-gateway-outcome"] == "released":
            assert "excused failed checks by name" in told


@pytest.mark.parametrize("stage", ["intnt", "modallity", "second-opinon"])
def test_a_stage_that_is_not_installed_stops_the_start(serve: Serve, upstream: Upstream, stage: str) -> None:
    with pytest.raises(AssertionError, match=f"no installed plugin offers the pre-screener `{stage}`"):
        serve({"radiology": policy(upstream.url, prescreen=f"[{{stage: intent}}, {{stage: {stage}}}]")})
