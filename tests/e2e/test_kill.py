"""`kill -9` at a random moment under load, 20 times: every answer that left has its record, and the database opens."""

import http.client
import json
import random
import sqlite3
import threading
import time
from pathlib import Path

from support import Serve, Served, faulty_policy


def _hammer(served: Served, key: str, answered: set[str], stop: threading.Event) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello"}]})
    port = int(served.base.rsplit(":", 1)[1])
    while not stop.is_set():
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            while not stop.is_set():
                client.request(
                    "POST",
                    "/v1/chat/completions",
                    body,
                    {"content-type": "application/json", "authorization": f"Bearer {key}"},
                )
                answer = client.getresponse()
                decision = answer.headers.get("x-gateway-decision")
                if decision:
                    answered.add(decision)
                answer.read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)


def test_kill_nine_twenty_times(serve: Serve, faulty: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    answered: set[str] = set()
    key = ""
    random.seed(20)
    for _ in range(20):
        served = serve({"radiology": faulty_policy()}, env=faulty, data=data)
        key = key or served.key()
        stop = threading.Event()
        threads = [threading.Thread(target=_hammer, args=(served, key, answered, stop)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.15, 0.6))
        served.kill()
        stop.set()
        for thread in threads:
            thread.join()
    database = next(data.glob("*.sqlite3"))
    with sqlite3.connect(database) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        logged = {row[0] for row in connection.execute("select id from decision_log")}
    assert len(answered) > 200, "the load was real"
    assert answered <= logged
    verified = served.run("log", "verify")
    assert verified.returncode == 0, verified.stderr
