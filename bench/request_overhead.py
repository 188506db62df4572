"""What the gateway adds to a text request, and what it takes to start, with an OpenAI-compatible backend.

Run: `python bench/request_overhead.py [requests]`. The upstream answers at once, so what is measured is the gateway.
The same request is sent directly and through the gateway in one run, and the record of each decision tells how long
the model took.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

GATEWAY = [sys.executable, "-m", "gateway.cli"]
QUESTIONS = (
    "Which imaging plane is shown in this brain MRI?",
    "Is the fracture of the distal radius displaced, and which angle should the report give for its tilt?",
    "A patient took an overdose of paracetamol. Which findings on CT would suggest liver failure?",
)
POLICY = """\
department: radiology
revision: 1
backend: {{stage: openai, deadline: 30s, config: {{base_url: "http://127.0.0.1:{port}/v1", model: bench}}}}
prescreen: [{{stage: intent, deadline: 5s}}, {{stage: image-text, deadline: 10s}}]
demonstrations: {{stage: clinical}}
audit:
  [{{stage: refusal}}, {{stage: harmful-compliance}}, {{stage: phi, on_finding: redact}}, {{stage: demonstration-leak}}]
tiers: [{{below: 0.2, budget: {{demonstrations: 4}}}}, {{below: 0.9, budget: {{demonstrations: 8}}}}]
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < 60:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return time.perf_counter() - start
        except urllib.error.HTTPError:
            return time.perf_counter() - start
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"{url} did not answer within 60 s")


def _ask(port: int, requests: int, key: str) -> tuple[list[float], list[str]]:
    """Send `requests` questions over one connection; give each one's milliseconds and decision id."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    times, decisions = [], []
    for number in range(requests):
        # A number makes each question new, so that no cache answers for the classifier.
        text = f"{QUESTIONS[number % len(QUESTIONS)]} (case {number})"
        body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]})
        start = time.perf_counter()
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        client.request("POST", "/v1/chat/completions", body, headers)
        answer = client.getresponse()
        answer.read()
        times.append((time.perf_counter() - start) * 1000)
        if answer.status != 200:
            raise SystemExit(f"status {answer.status}")
        decisions.append(answer.headers.get("x-gateway-decision") or "")
    return times, decisions


def _own(port: int, key: str, decisions: list[str]) -> list[float]:
    """Give each decision's milliseconds without its model."""
    own = []
    for decision in decisions:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/decisions/{decision}", headers={"authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            record = json.loads(answer.read())
        own.append(record["ms"] - sum(a["completed"]["ms"] for a in record["attempts"] if a["completed"]))
    return own


def main(requests: int = 300) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream_port, port = _free_port(), _free_port()
        (folder / "radiology.yaml").write_text(POLICY.format(port=upstream_port))
        env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")} | {
            "GATEWAY_DATA_DIR": str(folder / "data"),
            "GATEWAY_POLICIES_DIR": name,
            "GATEWAY_PORT": str(port),
        }
        out = subprocess.DEVNULL
        said = ("--port", str(upstream_port), "--say", "The sagittal plane.")
        upstream = subprocess.Popen([sys.executable, "-m", "gateway.testing.upstream", *said], stdout=out)
        server = subprocess.Popen([*GATEWAY, "serve"], env=env, stdout=out, stderr=out)
        try:
            ready = _wait(f"http://127.0.0.1:{port}/readyz")
            _wait(f"http://127.0.0.1:{upstream_port}/")
            words = ("keys", "create", "--department", "radiology", "--role", "caller", "--role", "officer", "--quiet")
            command = [*GATEWAY, *words]
            made = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            key = made.stdout.strip()
            _ask(port, 20, key)
            direct, _ = _ask(upstream_port, requests, key)
            through, decisions = _ask(port, requests, key)
            own = _own(port, key, decisions)
            status = Path(f"/proc/{server.pid}/status")
            memory = maps = ""
            if status.exists():
                memory = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
                maps = Path(f"/proc/{server.pid}/maps").read_text()
        finally:
            server.terminate()
            upstream.terminate()
            server.wait(30)
            upstream.wait(30)
    d, t, o = (statistics.median(values) for values in (direct, through, own))
    p99 = sorted(through)[int(len(through) * 0.99)]
    rss = int(memory.split()[1]) / 1024 if memory else float("nan")
    print(f"ready after                      {ready:8.2f} s")
    print(f"resident memory                  {rss:8.0f} MB")
    print(f"torch loaded                     {'yes' if 'libtorch' in maps else 'no':>8}")
    print(f"direct, median                   {d:8.2f} ms")
    print(f"through the gateway, median      {t:8.2f} ms   {t / d:5.1f} x direct; p99 {p99:.2f} ms")
    print(f"own work in the pipeline, median {o:8.2f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
