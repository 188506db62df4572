"""No prompt, image or answer text in process output, at debug level, whatever goes wrong."""

import base64
import io
import json
import logging

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from support import Serve, Upstream, policy

MARKER = "XYLOPHONEQUARTZ"


def _picture() -> str:
    image = Image.new("L", (640, 200), 0)
    ImageDraw.Draw(image).text((20, 70), MARKER, fill=255, font=ImageFont.load_default(size=40))
    info = PngInfo()
    info.add_text("Comment", MARKER)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_marker_is_nowhere_in_the_output(serve: Serve, upstream: Upstream) -> None:
    upstream.answer = f"The answer names {MARKER}."
    served = serve({"radiology": policy(upstream.url)}, env={"GATEWAY_LOG_LEVEL": "debug"})
    key = served.key("caller", "officer")
    image = {"type": "image_url", "image_url": {"url": _picture()}}
    contents = [f"Is {MARKER} a finding?", [{"type": "text", "text": f"What does {MARKER} mean here?"}, image]]
    decisions = []
    for content in contents:
        status, headers, body = served.chat(content, key)
        assert status == 200
        decisions.append(headers["x-gateway-decision"])
        if headers["x-gateway-outcome"] == "released":
            assert MARKER in json.dumps(body)
    assert any(MARKER in json.dumps(b["messages"][-1]) for b in upstream.bodies)
    upstream.answer = "\x00not an answer " + MARKER
    served.chat(f"{MARKER}?", key)
    bad = [
        f'{{"model": "auto", "messages": [{{"role": "{MARKER}"'.encode(),
        {"model": MARKER, "messages": [{"role": "user", "content": "hi"}]},
        {"model": "auto", "messages": [{"role": MARKER, "content": "hi"}]},
        {"model": "auto", MARKER: 1, "messages": [{"role": "user", "content": "hi"}]},
        {"model": "auto", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": MARKER}]}]},
    ]
    for body in bad:
        assert 400 <= served.post(body, key)[0] < 500
    for decision in decisions:
        record = served.run("log", "explain", "--json", decision).stdout
        assert decision in record and MARKER not in record
    served.stop()
    output = served.output()
    assert MARKER not in output and MARKER.lower() not in output.lower()
    files = [p.read_bytes() for p in served.data.rglob("*") if p.is_file()]
    assert files and not any(MARKER.encode() in data for data in files)


def test_the_formatter_drops_what_other_libraries_say() -> None:
    from gateway.cli.logs import _Line

    record = logging.LogRecord("some.library", logging.WARNING, "file.py", 3, "saw %s", (MARKER,), None)
    line = json.loads(_Line().format(record))
    assert MARKER not in json.dumps(line) and line["place"] == "file.py:3"
    try:
        raise ValueError(MARKER)  # noqa: TRY301 - its own traceback is what is formatted
    except ValueError as exc:
        record = logging.LogRecord(
            "gateway.x", logging.ERROR, "file.py", 3, "failed", None, (type(exc), exc, exc.__traceback__)
        )
    line = json.loads(_Line().format(record))
    assert line["message"] == "failed" and "ValueError" in line["exception"] and MARKER not in json.dumps(line)
