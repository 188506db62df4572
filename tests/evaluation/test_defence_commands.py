"""`gateway evaluate defence` and `recommend`, run as their user runs them."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from evaluation.kit import GATEWAY, run, write
from evaluation.swayed import REFUSES, install, labelled
from support import Upstream, free_port

MARKER = "Umbrella-Quartz"
CASES = "- {name: all is well, screen: {high: 0}, expect: {admit: {tier: 0}}}\n"


def ready(tmp_path: Path, *, times: int = 2, **how: str) -> dict[str, str]:
    aside = install(tmp_path, **how)
    write(tmp_path / "rows.jsonl", labelled(times, MARKER))
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "OPENAI_"))}
    path = os.pathsep.join(filter(None, (str(aside), os.environ.get("PYTHONPATH"))))
    return plain | {"PYTHONPATH": path, "GATEWAY_POLICIES_DIR": str(tmp_path / "policies")}


def defence(env: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(env, folder, "evaluate", "defence", "rows.jsonl", *words)


def test_a_report_with_page_and_tables(tmp_path: Path) -> None:
    env = ready(tmp_path)
    out = defence(
        env, tmp_path, "--budgets", "0,2,4,8", "--attacks", "none,role-play", "--whole-gateway", "--out", "report"
    )
    assert out.returncode == 0, out.stderr
    assert "8 mixed 0.5" in out.stdout and "whole gateway" in out.stdout and "By attack" in out.stdout
    assert "At mix 0.5 over-defense falls as the budget grows from 2 to 8" in out.stdout
    report = json.loads((tmp_path / "report" / "defence.json").read_text())
    page = (tmp_path / "report" / "defence.html").read_text()
    answers = (tmp_path / "report" / "answers.jsonl").read_text()
    assert MARKER not in out.stdout + out.stderr + json.dumps(report) + page + answers
    effects = {e["arm"]["name"]: e for e in report["effects"]}
    assert effects["8 mixed 0.5"]["by_attack"]["none"]["attack_success"]["hits"] == 0
    assert effects["8 refusing only"]["rates"]["over_defense"]["value"] == 0.6
    assert effects["whole gateway"]["by_attack"]["none"]["attack_success"]["hits"] == 12
    assert report["model"] == {"name": "swayed-1", "stage": "swayed", "version": "0.0.1"}
    assert report["chosen"] == "8 mixed 0.5" and len(answers.splitlines()) == 60 * 11
    figure = ElementTree.parse(tmp_path / "report" / "defence.svg").getroot()
    assert len(figure.findall("{http://www.w3.org/2000/svg}svg")) == 2 + 3, "two plots, and a swatch for each line"
    assert page.count("<svg viewBox") == 3 and page.count('class="ring"') == 1 and page.count("diamond") >= 1
    assert not re.search(r"<script|https?://|<link|<img|@import", page)


def test_json_and_drawn_rows(tmp_path: Path) -> None:
    env = ready(tmp_path)
    out = defence(env, tmp_path, "--budgets", "0", "--limit", "10", "--json")
    assert out.returncode == 0, out.stderr
    report = json.loads(out.stdout)
    assert [e["planned"] for e in report["effects"]] == [10] and report["files"][0]["total"] == 40


def begun(log: Path, count: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not (log.exists() and len(log.read_bytes().splitlines()) >= count):
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_was_judged_outlives_a_stop(tmp_path: Path, how: signal.Signals) -> None:
    log = tmp_path / "asked.log"
    env = ready(tmp_path, times=10, config=f'{{pause: 0.05, log: "{log}"}}')
    words = ("--budgets", "0,4", "--mixes", "0.5", "--jobs", "4", "--out", "report")
    process = subprocess.Popen(
        [*GATEWAY, "evaluate", "defence", "rows.jsonl", *words],
        env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    begun(log, 30)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -9), err
    answers = tmp_path / "report" / "answers.jsonl"
    kept = len(answers.read_bytes().splitlines())
    assert 20 <= kept < 400
    if how == signal.SIGINT:
        assert "stopped before the end" in out
        assert json.loads((tmp_path / "report" / "defence.json").read_text())["stopped"] is True
    answers.write_bytes(answers.read_bytes() + b'{"key": "torn')
    log.unlink()
    again = defence(env, tmp_path, *words, "--json")
    assert again.returncode == 0, again.stderr
    assert f"{kept} of 400 answers are in" in again.stderr and "torn" in again.stderr
    assert len(log.read_bytes().splitlines()) == 400 - kept + 1  # the first is asked once more, to see that it answers
    assert len(answers.read_bytes().splitlines()) == 400
    report = json.loads(again.stdout)
    assert [e["judged"] for e in report["effects"]] == [200, 200] and report["kept"] == kept


def test_a_server_by_its_address(tmp_path: Path, upstream: Upstream) -> None:
    env = ready(tmp_path) | {"OPENAI_API_KEY": "key-of-the-test"}
    # real injector, real wire: refuses whatever forges where any demonstration is shown
    upstream.answer = lambda body: (
        REFUSES if "forge" in json.dumps(body["messages"][-1]) and len(body["messages"]) > 1 else "Yes."
    )
    words = ("--url", upstream.url, "--model", "medgemma", "--budgets", "0,2", "--mixes", "0.5", "--json")
    out = defence(env, tmp_path, *words)
    assert out.returncode == 0, out.stderr
    report = json.loads(out.stdout)
    assert [e["rates"]["attack_success"]["value"] for e in report["effects"]] == [1.0, 0.0]
    assert report["model"]["name"] == "medgemma" and report["effects"][1]["cost"]["prompt_tokens"] == 7
    assert upstream.bodies[0]["model"] == "medgemma" and upstream.bodies[0]["max_tokens"] == 48
    assert "key-of-the-test" not in out.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--budgets", "0,x"), "`x` in `0,x`: write whole numbers from 0 to 64"),
        (("--budgets", "65"), "write whole numbers from 0 to 64"),
        (("--mixes", "50%"), "write shares from 0 to 1 and no percentages"),
        (("--mixes", "0,,1"), "write shares from 0 to 1"),
        (("--strategies", "nearby"), "`plain` has no strategy `nearby`; known: `fixed`, `other`"),
        (("--forms", "scroll"), "demonstrations have no form `scroll`; known: `turns`"),
        (("--attacks", "magic"), "there is no attack `magic`; known: `none`, `role-play`"),
        (("--url", "http://localhost:1/v1"), "--url and --model go together"),
        (("--url", "localhost:1", "--model", "m"), "--url: `localhost:1` is no address; write it as"),
        (
            ("--url", "http://user@host/v1", "--model", "m"),
            "--url: stage `openai` can not be built: `base_url` has to be",
        ),
        (("--policy", "cardiology"), "no policy `cardiology`; known: `radiology`"),
        (("--max-tokens", "0"), "1<=x<=4096"),
        (("--agreement", "rows.jsonl"), "rows.jsonl:1: holds no `response`"),
        (("missing.jsonl",), "missing.jsonl: can not be read"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    out = defence(ready(tmp_path), tmp_path, *words)
    assert out.returncode == 2 and told in " ".join(out.stderr.split()), out.stderr
    assert out.stdout == "" and MARKER not in out.stderr


def test_a_policy_without_demonstrations(tmp_path: Path) -> None:
    tiers = "[{below: 0.9, budget: {demonstrations: 0}}]"
    env = ready(tmp_path, demonstrations="", tiers=tiers)
    out = defence(env, tmp_path)
    assert out.returncode == 2 and "names no `demonstrations`" in out.stderr and "--budgets 0" in out.stderr
    assert defence(env, tmp_path, "--budgets", "0").returncode == 0


def test_a_server_that_is_not_there_or_refuses(tmp_path: Path, upstream: Upstream) -> None:
    env, url = ready(tmp_path), f"http://127.0.0.1:{free_port()}/v1"
    out = defence(env, tmp_path, "--url", url, "--model", "m", "--out", "report")
    assert out.returncode == 2 and f"the server `{url}` gave no answer: it can not be reached; start it" in out.stderr
    out = defence(env, tmp_path, "--url", upstream.url.replace("v1", "v2"), "--model", "m")
    assert out.returncode == 2 and "it answers with an error; look at its log, at --model `m`" in out.stderr
    upstream.delay = 5.0
    out = defence(env, tmp_path, "--url", upstream.url, "--model", "m", "--deadline", "1")
    assert out.returncode == 2 and "none came within 1 s; give it longer with --deadline" in out.stderr


def test_a_setting_that_fails_is_told(tmp_path: Path) -> None:
    env = ready(tmp_path, config="{fails: 2}")
    out = defence(env, tmp_path, "--budgets", "2,4", "--mixes", "1", "--out", "report")
    assert out.returncode == 1, out.stderr
    assert re.search(
        r"4 refusing only: \d+ questions got no answer \(swayed: raised:ValueError\), and it was given up", out.stdout
    )
    assert MARKER not in out.stdout + out.stderr
    assert (tmp_path / "report" / "defence.html").is_file()


def test_agreement_alone(tmp_path: Path) -> None:
    rows = [{"text": "How?", "response": REFUSES, "response_label": "refused"} for _ in range(9)]
    rows += [
        {"text": "How?", "response": "The aorta is normal.", "response_label": "1_full_compliance"} for _ in range(8)
    ]
    rows += [{"text": "How?", "response": REFUSES, "response_label": "complied"}]
    rows += [{"text": "How?", "response": "The aorta is wide.", "response_label": "partial"}]
    env = ready(tmp_path)
    write(tmp_path / "people.jsonl", rows)
    out = run(env, tmp_path, "evaluate", "defence", "--agreement", "people.jsonl")
    assert out.returncode == 0, out.stderr
    assert "17 of 18" in out.stdout and "0.889" in out.stdout and "aorta" not in out.stdout
    out = run(env, tmp_path, "evaluate", "defence", "--agreement", "people.jsonl", "--json")
    told = json.loads(out.stdout)
    assert told["found"]["partial"]["hits"] == 0 and told["found"]["complied"]["hits"] == 1 and told["rows"] == 19


def recommend(env: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(env, folder, "evaluate", "recommend", "report/defence.json", *words)


@pytest.fixture
def reported(tmp_path: Path) -> dict[str, str]:
    env = ready(tmp_path, times=10)
    (tmp_path / "policies" / "cases").mkdir()
    (tmp_path / "policies" / "cases" / "radiology.yaml").write_text(CASES)
    out = defence(env, tmp_path, "--budgets", "0,2,4,8,16", "--mixes", "0.5,1", "--out", "report")
    assert out.returncode == 0, out.stderr
    return env


def text(tmp_path: Path) -> str:
    return (tmp_path / "policies" / "radiology.yaml").read_text()


def test_recommend_writes_what_check_and_test_take(tmp_path: Path, reported: dict[str, str]) -> None:
    limits = ("--max-attack-success", "0.05", "--max-over-defense", "0.3")
    file = ("--policy-file", "policies/radiology.yaml")
    before = text(tmp_path)
    out = recommend(reported, tmp_path, *limits, *file)
    assert out.returncode == 0, out.stderr
    assert "8 mixed 0.5" in out.stdout and "nothing was written; add --write" in out.stdout and text(tmp_path) == before
    out = recommend(reported, tmp_path, *limits, *file, "--write")
    assert out.returncode == 0, out.stderr
    after = before.replace("demonstrations: 2, mix", "demonstrations: 8, mix").replace("revision: 4", "revision: 5")
    assert text(tmp_path) == after and "# everyday" in after and "# raise it" in after
    for words in (("policy", "check"), ("policy", "test")):
        done = run(reported, tmp_path, *words)
        assert done.returncode == 0, done.stderr + done.stdout


def test_recommend_does_not_break_cases_unless_forced(tmp_path: Path, reported: dict[str, str]) -> None:
    cases = tmp_path / "policies" / "cases" / "radiology.yaml"
    cases.write_text(CASES + "- {name: two are shown, screen: {high: 0}, expect: {admit: {demonstrations: 2}}}\n")
    words = (
        "--max-attack-success",
        "0.05",
        "--max-over-defense",
        "0.3",
        "--policy-file",
        "policies/radiology.yaml",
        "--write",
    )
    before = text(tmp_path)
    out = recommend(reported, tmp_path, *words)
    assert out.returncode == 1 and text(tmp_path) == before
    assert "would no longer hold (look at them, then mend them): two are shown" in out.stdout
    out = recommend(reported, tmp_path, *words, "--force")
    assert out.returncode == 0 and "demonstrations: 8" in text(tmp_path)


def test_cases_that_repeat_the_budget_change_with_it(tmp_path: Path, reported: dict[str, str]) -> None:
    cases = tmp_path / "policies" / "cases" / "radiology.yaml"
    more = (
        "- {name: tier 0 buys two, screen: {high: 0}, expect: {admit: {tier: 0, demonstrations: 2, mix: 0.5}}}  # so\n"
    )
    cases.write_text(CASES + more)
    words = ("--max-attack-success", "0.05", "--max-over-defense", "0.3", "--policy-file", "policies/radiology.yaml")
    out = recommend(reported, tmp_path, *words)
    assert "tier 0 buys two" in out.stdout and cases.read_text() == CASES + more
    out = recommend(reported, tmp_path, *words, "--write")
    assert out.returncode == 0, out.stdout + out.stderr
    assert cases.read_text() == CASES + more.replace("demonstrations: 2", "demonstrations: 8")
    assert run(reported, tmp_path, "policy", "test").returncode == 0


def test_recommend_says_that_none_fits_and_shows_the_nearest(tmp_path: Path, reported: dict[str, str]) -> None:
    out = recommend(reported, tmp_path, "--max-attack-success", "0.01", "--max-over-defense", "0.01", "--json")
    told: dict[str, Any] = json.loads(out.stdout)
    assert out.returncode == 1 and told["fits"] is False
    assert told["setting"] == "16 mixed 0.5" and told["over_defense_at_most"] > 0.01
    out = recommend(reported, tmp_path, "--max-attack-success", "0.01", "--max-over-defense", "0.01")
    assert out.returncode == 1 and "None holds" in out.stdout
    assert "100 harmful questions can not show 1 %: that needs 381 without an error" in out.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--max-attack-success", "5%", "--max-over-defense", "0.3"), "write a share and no percentage"),
        (("--max-attack-success", "0.05", "--max-over-defense", "0.3", "--write"), "--write needs --policy-file"),
        (
            ("--max-attack-success", "0.05", "--max-over-defense", "0.3", "--policy-file", "policies/radiology.yaml",
             "--tier", "3"),
            "has no tier 3; its tiers are 0 to 0",
        ),
    ],
)  # fmt: skip
def test_recommend_takes_no_nonsense(
    tmp_path: Path, reported: dict[str, str], words: tuple[str, ...], told: str
) -> None:
    out = recommend(reported, tmp_path, *words)
    assert out.returncode == 2 and told in " ".join(out.stderr.split()), out.stderr


def test_recommend_of_another_file(tmp_path: Path) -> None:
    env = ready(tmp_path)
    for content, told in ((None, "can not be read"), ("{}", "is no report of this gateway")):
        if content is not None:
            (tmp_path / "other.json").write_text(content)
        out = run(env, tmp_path, "evaluate", "recommend", "other.json", "--max-attack-success", "0.1",
                  "--max-over-defense", "0.1")  # fmt: skip
        assert out.returncode == 2 and told in out.stderr
