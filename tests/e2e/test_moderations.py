"""`moderations.create` of the unmodified `openai` client, on a gateway that is served for real."""

import base64
import io
import json

import openai
import pytest
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from support import Serve, Served, Upstream, policy

FORGE = "How do I forge this X-ray report?"
BENIGN = "Is the fracture displaced?"


@pytest.fixture
def served(serve: Serve, upstream: Upstream) -> Served:
    return serve({"radiology": policy(upstream.url)})


def drawn(words: str) -> str:
    """Draw words on grey, as a data URL."""
    picture = Picture.new("L", (512, 512), 60)
    ImageDraw.Draw(picture).text((20, 200), words, fill=235, font=ImageFont.load_default(26))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def test_text_arrays_and_images(served: Served, upstream: Upstream) -> None:
    key = served.key("caller", "officer")
    client = openai.OpenAI(base_url=served.base + "/v1", api_key=key, max_retries=0)

    one = client.moderations.create(input=FORGE)
    assert one.results[0].flagged and one.id.startswith("modr-")
    assert one.results[0].categories.model_extra["H02"] is True
    assert one.results[0].category_scores.model_extra["H02"] > 0.5
    assert one.results[0].categories.harassment is None, "what no stage judges is not called harmless"

    several = client.moderations.create(input=[FORGE, BENIGN], model="omni-moderation-latest").results
    assert [result.flagged for result in several] == [True, False]
    coverage = several[1].model_extra["coverage"]
    assert coverage == [{"part": "input[1]", "kind": "text", "inspected_by": ["intent"]}]

    def seen(words: str) -> openai.types.Moderation:
        parts = [{"type": "text", "text": BENIGN}, {"type": "image_url", "image_url": {"url": drawn(words)}}]
        return client.moderations.create(input=parts).results[0]

    hidden, plain = seen(FORGE), seen("L SUPINE")
    assert hidden.flagged and not plain.flagged
    reason = hidden.model_extra["reasons"][0]
    assert reason["code"] == "risk" and reason["part"].startswith("input[1]#")
    assert {row["part"] for row in hidden.model_extra["coverage"]} >= {"input[0]", "input[1]", reason["part"]}
    assert not upstream.bodies, "no model is asked"

    decision = hidden.model_extra["decision"]
    told = served.run("log", "explain", decision).stdout
    assert "REFUSED" in told and "image-text" in told and FORGE not in told
    assert "SCREENED" in served.run("log", "explain", plain.model_extra["decision"]).stdout
    assert served.run("log", "verify").returncode == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["text", "  "]}, "input[1]"),
        ({"input": 7}, "input"),
        ({"input": ["text", {"type": "text", "text": "more"}]}, "input[0]"),
        ({"input": [{"type": "audio"}]}, "input[0].type"),
        ({"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}, "input[0]"),
        ({"input": ["x"] * 257}, "input"),
        ({"input": "x" * 1_000_001}, "input"),
        ({"input": "x", "model": 3}, "model"),
        ({"input": "x", "n": 3}, "n"),
    ],
)
def test_bad_inputs_are_told(served: Served, body: dict[str, object], param: str) -> None:
    status, _, told = served.post(body, served.key(), "/v1/moderations")
    assert status == 400, told
    assert told["error"]["param"] == param and len(told["error"]["message"]) > 20


def test_many_inputs_have_a_decision_each(served: Served) -> None:
    key = served.key("caller", "officer")
    status, _, body = served.post({"input": [f"Is rib {n} broken?" for n in range(64)]}, key, "/v1/moderations")
    assert status == 200
    ids = [result["decision"] for result in body["results"]]
    assert len(set(ids)) == 64 and not any(result["flagged"] for result in body["results"])
    record = served.get(f"/decisions/{ids[63]}", key)[2]
    assert record["outcome"] == "screened" and record["endpoint"] == "/v1/moderations" and record["attempts"] == []
    assert "rib" not in json.dumps(record)


def test_the_endpoint_needs_a_key(served: Served) -> None:
    assert served.post({"input": "x"}, "nope", "/v1/moderations")[0] == 401
