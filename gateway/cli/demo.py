"""`gateway demo`: the main job, live.

It starts the gateway, asks it over HTTP with the `openai` client, and judges the decisions. Then it asks the
embedded model alone, with no pre-screen before it, to show what demonstrations do to a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.demo_cases import Case, cases, effect_questions
from gateway.cli.output import settings_options, show
from gateway.errors import Unavailable
from gateway.evaluation.arms import Arm
from gateway.evaluation.effects import Effect
from gateway.settings import read_settings
from gateway.values import Budget

_ARMS = (
    Arm(name="no demonstrations", budget=Budget(demonstrations=0, mix=0.0)),
    Arm(name="4, all refusing", budget=Budget(demonstrations=4, mix=1.0)),
    Arm(name="4, mixed", budget=Budget(demonstrations=4, mix=0.5)),
    Arm(name="8, all refusing", budget=Budget(demonstrations=8, mix=1.0)),
    Arm(name="8, mixed", budget=Budget(demonstrations=8, mix=0.5)),
)


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli", *words]


@contextlib.contextmanager
def _serving(policies: Path, folder: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Run `gateway serve` beside this process, in a data folder of its own; give its address and environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | {
        "GATEWAY_DATA_DIR": str(folder),
        "GATEWAY_POLICIES_DIR": str(policies),
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
    }
    base = f"http://127.0.0.1:{port}"
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(_command("serve"), env=environment, stdout=log, stderr=log)  # noqa: S603 - our own command
        try:
            _wait(server, base, folder / "serve.log")
            yield base, environment
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], base: str, log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if server.poll() is not None:
            raise Unavailable(f"the gateway did not start:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(base + "/readyz", timeout=2):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise Unavailable("the gateway was not ready within 180 s")


def _ask(client: Any, case: Case) -> tuple[Any, str, str, float]:
    start = time.perf_counter()
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": case.content}], max_tokens=40
    )
    ms = (time.perf_counter() - start) * 1000
    return raw.parse(), raw.headers["x-gateway-decision"], raw.headers["x-gateway-outcome"], ms


def _record(base: str, key: str, decision: str) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{base}/decisions/{decision}", headers={"authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
        record: dict[str, Any] = json.loads(answer.read())
    return record


def _row(case: Case, base: str, key: str, asked: tuple[Any, str, str, float]) -> dict[str, Any]:
    """Make a row of the table out of the answer and the record of its decision."""
    answer, decision, outcome, ms = asked
    record = _record(base, key, decision)
    admission = record["admission"]
    risk, budget = admission.get("risk"), admission.get("budget") or {}
    right = outcome == case.expect and (outcome == "released") == (answer.choices[0].finish_reason != "content_filter")
    return {
        "asked": case.name,
        "risk": "" if risk is None else f"{risk:.3f}",
        "budget": f"{budget['demonstrations']} at {budget['mix']:g}" if budget else "none",
        "decision": outcome,
        "rule": record["final"]["rule"] if outcome != "released" else admission["rule"],
        "ms": round(ms),
        "decision_id": decision,
        "as_expected": "yes" if right else f"NO, expected {case.expect}",
        "answer": answer.choices[0].message.content,
    }


def _requests(policies: Path, say: Any) -> list[dict[str, Any]]:
    from openai import OpenAI

    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as name:
        folder = Path(name)
        say("starting the gateway on the embedded model …")
        with _serving(policies, folder) as (base, environment):
            made = subprocess.run(  # noqa: S603 - our own command
                _command(
                    "keys", "create", "--department", "radiology", "--role", "caller", "--role", "officer", "--quiet"
                ),
                env=dict(environment), capture_output=True, text=True, check=True,
            )  # fmt: skip
            key = made.stdout.strip()
            client = OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=180)
            rows = []
            for case in cases():
                say(f"asking: {case.name} …")
                rows.append(_row(case, base, key, _ask(client, case)))
            told = subprocess.run(  # noqa: S603 - our own command
                _command("log", "explain", rows[3]["decision_id"]),
                env=dict(environment), capture_output=True, text=True, check=True,
            )  # fmt: skip
            rows[3]["explained"] = told.stdout
            return rows


async def _effect(say: Any) -> tuple[Effect, ...]:
    from tqdm import tqdm

    from gateway.evaluation.answers import Journal
    from gateway.evaluation.asking import Setup
    from gateway.evaluation.defence import measure_arm, plan
    from gateway.evaluation.effects import effect
    from gateway.evaluation.stages import workbench
    from gateway.images import Limits
    from gateway.registry import load_registry

    say("loading the model once more, alone …")
    questions = effect_questions()
    async with workbench(load_registry()) as bench:
        backend = await bench.stage("backend", "transformers", {}, "demo")
        injector = await bench.stage("injector", "clinical", {}, "demo")
        refusal = await bench.stage("auditor", "refusal", {}, "demo")
        compliance = await bench.stage("auditor", "harmful-compliance", {}, "demo")
        bench.check()
        if backend is None or injector is None or refusal is None or compliance is None:
            raise Unavailable("a stage of the demo was not built")
        setup = Setup(
            backend=backend, injectors={None: injector}, refusal=refusal, compliance=compliance,
            max_tokens=24, deadline=120.0, limits=Limits(),
        )  # fmt: skip
        effects = []
        with tqdm(total=len(questions) * len(_ARMS), unit="answer", disable=None, leave=False) as bar:
            for arm in await plan(questions, _ARMS, setup):
                measured = await measure_arm(arm, setup, Journal(None), jobs=len(questions), progress=bar.update)
                if measured.failures:  # a number that is made of missing answers would be worse than none
                    raise Unavailable(f"a stage failed while measuring: {', '.join(measured.failures)}")
                effects.append(effect(measured))
        return tuple(effects)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@settings_options("policies_dir")
def demo(as_json: bool, **flags: Any) -> None:
    """Show the main job, live: decisions over HTTP, then what demonstrations do to the model alone."""
    start = time.perf_counter()
    policies = read_settings(**flags).policies_dir

    def say(text: str) -> None:
        click.echo(f"{time.perf_counter() - start:5.1f} s  {text}", err=True)

    rows = _requests(policies, say)
    shown = [
        {
            "demonstrations": e.arm.name,
            "harmful_answered": f"{e.rates.attack_success.hits} of {e.rates.attack_success.of}",
            "benign_refused": f"{e.rates.over_defense.hits} of {e.rates.over_defense.of}",
            "ms_per_answer": round(e.cost.ms_median) if e.cost else None,
        }
        for e in asyncio.run(_effect(say))
    ]
    if as_json:
        click.echo(json.dumps({"decisions": rows, "effect": shown}, indent=2, ensure_ascii=False))
    else:
        columns = ("asked", "risk", "budget", "decision", "rule", "ms", "decision_id", "as_expected")
        show(rows, columns, json_wanted=False, title="Eight requests over HTTP")
        click.echo("\nThe insurance-fraud decision, as `gateway log explain` tells it:\n")
        click.echo(rows[3]["explained"])
        title = "The model alone, the pre-screen out of the way: what demonstrations do"
        show(shown, tuple(shown[0]), json_wanted=False, title=title)
    wrong = [row["asked"] for row in rows if row["as_expected"] != "yes"]
    say(f"done; {len(rows) - len(wrong)} of {len(rows)} decisions as expected")
    if wrong:
        raise SystemExit(1)
