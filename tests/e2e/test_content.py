"""Sealed content from one end to the other: a served gateway, its command line, and its files."""

import json

from e2e.test_marker import MARKER, _picture
from support import Serve, Upstream, policy

REASON = "a complaint by the patient"


def test_content_is_sealed_shown_rewrapped_and_erased(serve: Serve, upstream: Upstream) -> None:
    upstream.answer = f"The answer names {MARKER}."
    served = serve({"radiology": policy(upstream.url, content="{keep: sealed, for: 30d}", uninspected="refuse")})
    key, officer = served.key("caller"), served.key("officer")
    image = {"type": "image_url", "image_url": {"url": _picture()}}
    question = [{"type": "text", "text": f"Is {MARKER} a finding in this radiograph?"}, image]
    status, headers, _ = served.chat(question, key)
    assert status == 200
    decision = headers["x-gateway-decision"]

    def shown() -> dict:
        body = {"reason": REASON, "minutes": 5}
        status, _, told = served.post(body, officer, f"/decisions/{decision}/reveal")
        assert status == 200, told
        return told

    first = shown()
    assert MARKER in first["texts"][0]["text"]
    assert first["images"][0]["url"].startswith("data:image/")
    assert served.post({"reason": REASON, "minutes": 5}, key, f"/decisions/{decision}/reveal")[0] == 403
    assert served.get(f"/decisions/{decision}/content", officer)[0] == 200
    rotated = served.run("vault", "rotate-key")
    assert rotated.returncode == 0 and rotated.stdout.startswith("1 keys of content"), rotated.stderr
    assert shown()["texts"] == first["texts"]
    keys = json.loads(served.run("vault", "keys", "--json").stdout)
    assert [(row["wraps"], row["current"]) for row in keys] == [(1, True), (0, False)]
    told = served.run("vault", "reveal", decision, "--reason", REASON)
    assert MARKER in json.loads(told.stdout)["texts"][0]["text"]
    files = [p.read_bytes() for p in served.data.rglob("*") if p.is_file()]
    assert files and not any(MARKER.encode() in data for data in files)
    placed = served.run("holds", "place", "--reason", "a lawsuit", "--decision", decision)
    assert placed.returncode == 0, placed.stderr
    refused = served.run("vault", "erase", decision, "--reason", REASON, "--yes")
    assert refused.returncode == 2 and "legal hold" in refused.stderr
    hold = placed.stdout.split()[0]
    assert served.run("holds", "request-release", hold, "--reason", "it is over").returncode == 0
    alone = served.run("holds", "release", hold, "--reason", "it is over")
    assert alone.returncode == 2 and "another person" in alone.stderr
    assert served.post({"reason": "it is over"}, officer, f"/holds/{hold}/release")[0] == 403, "of one department alone"
    assert hold in served.run("holds", "list").stdout.replace("\n", "")
    assert json.loads(served.run("retention", "run", "--json").stdout) == {"erased": 0, "held": 0, "finished": 0}
    record = json.loads(served.run("log", "explain", "--json", decision).stdout)
    assert record["sealed"]["until"] and record["erased"] in ([], ["demonstrations"])
    served.stop()
    assert MARKER not in served.output()
