"""A plugin installed from its own folder, outside the repository, changes decisions without a change in `gateway/`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, Serve, Upstream, policy


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Copy the example plugin to a folder of its own and install it aside with pip."""
    source = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "tests" / "outside" / "gateway_outside", source)
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, timeout=120)
    return {"PYTHONPATH": str(target)}


def test_outside_plugin_changes_decisions(serve: Serve, upstream: Upstream, installed: dict[str, str]) -> None:
    prescreen = "[{stage: intent, deadline: 10s}, {stage: image-text, deadline: 20s}%s]"
    guarded = ", {stage: blocklist, config: {words: [zebrafish]}}"
    question = "Is the zebrafish model relevant to this fracture?"
    plain = serve({"radiology": policy(upstream.url, prescreen=prescreen % "")}, env=installed)
    assert plain.chat(question, plain.key())[1]["x-gateway-outcome"] == "released"
    served = serve({"radiology": policy(upstream.url, prescreen=prescreen % guarded)}, env=installed)
    key = served.key()
    _, headers, _ = served.chat(question, key)
    assert headers["x-gateway-outcome"] == "refused"
    assert "blocklist" in served.run("log", "explain", headers["x-gateway-decision"]).stdout
    assert served.chat("Is the fracture displaced?", key)[1]["x-gateway-outcome"] == "released"
    listed = json.loads(served.run("plugins", "list", "--json").stdout)
    assert any(row["stage"] == "blocklist" for row in listed)


def test_a_policy_that_names_a_missing_plugin_stops_the_start(tmp_path: Path, upstream: Upstream) -> None:
    from support import GATEWAY

    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "radiology.yaml").write_text(
        policy(
            upstream.url,
            prescreen="[{stage: blocklist}]",
            tiers="[{below: 2, budget: {demonstrations: 1}}]",
            audits="[]",
        )
    )
    command = [*GATEWAY, "serve", "--policies-dir", str(folder), "--data-dir", str(tmp_path / "data"), "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    for mistake in ("blocklist", "tiers[0].below", "audits"):
        assert mistake in result.stderr, result.stderr
