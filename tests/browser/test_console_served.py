"""`gateway serve` serves the console: over the whole gateway, with its sequencer and its sinks."""

import re
import time
import urllib.parse
import urllib.request

from browser.kit import _OPENER
from support import Serve, faulty_policy


def test_a_decision_of_the_api_is_found_in_the_console(serve: Serve, faulty: dict[str, str]) -> None:
    served = serve({"radiology": faulty_policy()}, env=faulty)
    status, headers, _ = served.chat("Is the fracture displaced?", served.key())
    assert status == 200
    decision = headers["x-gateway-decision"]

    def ask(path, form=None, cookie=""):
        body = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(served.base + path, body, {"cookie": cookie, "origin": served.base})
        try:
            with _OPENER.open(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.headers, exc.read().decode()

    status, headers, _ = ask("/console/sign-in", {"key": served.key("officer")})
    assert status == 303
    cookie = headers["set-cookie"].partition(";")[0]
    _, _, text = ask(f"/console/decisions/{decision}", cookie=cookie)
    assert "RELEASED" in text and "faulty" in text
    end = time.monotonic() + 20
    while decision not in ask("/console/decisions", cookie=cookie)[2]:
        assert time.monotonic() < end, "the sequencer puts it in the list by itself"
        time.sleep(0.1)
    while True:
        _, _, text = ask("/console/integrity", cookie=cookie)
        if re.search(r'<span class="tag done">good</span>', text):
            break
        assert time.monotonic() < end, text
        time.sleep(0.1)
    assert "checkpoints" in text
    assert "fracture" not in served.output()
