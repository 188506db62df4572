"""The page about batches is true: its commands and snippets run, on its own lines."""

import base64
import datetime as dt
import json
import os
import re
import subprocess
import sys
import time

import msgspec
import pytest
from support import GATEWAY, ROOT, Serve, faulty_policy

from gateway.batch.webhook import message_of, signed
from gateway.cli.batch_seen import WORDS
from gateway.policy.model import BatchSpec
from gateway.store.batch_shape import Batch, LineOutcome, Status

PAGE = (ROOT / "docs" / "batches.md").read_text()
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def event() -> tuple[str, dict[str, str]]:
    """What a worker would send of a batch that has failed."""
    now = dt.datetime.now(dt.UTC)
    fields: dict[str, object] = dict.fromkeys(Batch.__struct_fields__)
    fields |= {"id": "batch_1", "status": "failed", "failed_at": now, "created_at": now, "errors": ()}
    body = message_of(Batch(**fields))  # type: ignore[arg-type]
    return body.decode(), signed(SECRET, "msg_batch_1", body, int(time.time()))


def test_the_commands_and_the_client_run(serve: Serve, faulty: dict[str, str], tmp_path) -> None:
    served = serve({"radiology": faulty_policy()}, env=faulty | {"GATEWAY_EMBEDDED_WORKER": "true"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gateway").write_text(f'#!/bin/sh\nexec {" ".join(GATEWAY)} "$@"\n')
    (tmp_path / "bin" / "gateway").chmod(0o755)
    (tmp_path / "night.jsonl").write_text(snippets("jsonl")[0])
    env = served.env | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "GATEWAY_URL": served.base,
        "GATEWAY_API_KEY": served.key(),
        "GATEWAY_WEBHOOK_SECRET": SECRET,
    }
    (commands,) = snippets("console")
    script = "set -e\n" + "\n".join(line.removeprefix("$ ") for line in commands.splitlines())
    ran = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (answers,) = (tmp_path / "answers").iterdir()
    assert [json.loads(line)["custom_id"] for line in answers.read_text().splitlines()] == ["case-1", "case-2"]

    body, headers = event()
    code = "\n".join([*snippets("python"), f"print(received({body!r}, {headers!r}))"])
    words = [sys.executable, "-c", code]
    ran = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "completed 2 0\nbatch.failed batch_1\n", ran.stderr
    assert len((tmp_path / "output.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("word", [*Status.__args__, *BatchSpec.__struct_fields__])
def test_nothing_is_left_out(word: str) -> None:
    assert re.search(rf"`{word}`|\b{word}:", PAGE)


def test_a_person_is_told_of_every_outcome() -> None:
    assert set(WORDS) == set(LineOutcome.__args__)


def test_the_error_codes_are_those_of_the_code() -> None:
    told = set(re.findall(r"`([a-z]+_[a-z_]+)`", PAGE.partition("| `error.code` |")[2].partition("## Statuses")[0]))
    source = "\n".join(
        path.read_text() for folder in ("batch", "store") for path in (ROOT / "gateway" / folder).glob("*.py")
    )
    assert [code for code in told - {"custom_id"} if f'"{code}"' not in source] == []
    assert {"invalid_line", "line_failed", "no_policy", "empty_file", "batch_expired"} < told


def test_the_bar_of_the_page_is_the_one_that_is_drawn() -> None:
    from rich.console import Console

    from gateway.cli.batch_bar import Bar
    from gateway.cli.batch_seen import seen_of
    from gateway.cli.batch_view import View

    drawn = next(text for text in snippets("text") if "━" in text)
    counts = {"released": 1012, "refused": 60, "withheld": 4, "failed": 2, "invalid": 22}
    body = {
        "id": re.search(r"batch_\w+", drawn)[0],  # type: ignore[index]
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-1",
        "output_file_id": None,
        "error_file_id": None,
        "status": "in_progress",
        "created_at": 0,
        "in_progress_at": 0,
        "expires_at": 86400,
        "request_counts": {"total": 2000, "completed": 1076, "failed": 24},
        "metadata": {"ward": "night"},
        "gateway": {
            "kind": "answer", "department": "radiology", "priority": 0, "paused": False, "report_file_id": None,
            "by_outcome": counts, "reasons": {},
        },
    }  # fmt: skip
    seen = seen_of(body)
    view = View(msgspec.structs.replace(seen, completed=0, failed=0), 0)
    view.see(seen, 29)
    console = Console(width=100, file=None, record=True, color_system=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(Bar(view, 29, 29))
    assert [line.rstrip() for line in captured.get().splitlines()] == drawn.splitlines()
