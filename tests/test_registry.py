"""The registry finds what is installed, and tells every fault of a plugin by the plugin's name."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.registry import load_registry


def _installed(folder: Path, name: str, code: str, point: str | None = None) -> None:
    module = f"gateway_{name}"
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gateway-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[gateway]\n{point or name} = {module}\n")


def _load(folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "from gateway.registry import load_registry\nfrom gateway.errors import ConfigurationError\n"
        "try: print([(o.kind, o.name, o.distribution) for o in load_registry().all()])\n"
        "except ConfigurationError as e: print(e)"
    )
    env = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


OFFER = (
    "from gateway.plugin import *\nclass A:\n    async def audit(self, p, c): return ()\n"
    "@hookimpl\ndef gateway_auditors(): return [Stage('%s', NoConfig, lambda c: A())]\n"
)


def test_builtin_stages_are_found_with_their_distribution() -> None:
    offers = {(o.kind, o.name): o for o in load_registry().all()}
    assert offers["prescreener", "intent"].distribution == "gateway-intent"
    assert ("auditor", "phi") in offers
    assert offers["backend", "openai"].version


def test_a_stranger_uses_the_same_door(tmp_path: Path) -> None:
    _installed(tmp_path, "mine", OFFER % "mine")
    assert "('auditor', 'mine', 'gateway-mine')" in _load(tmp_path).stdout


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise RuntimeError('SECRET')", "can not be imported"),
        ("import sys; sys.exit(3)", "can not be imported"),
        (OFFER % "phi", "auditor `phi` is offered by"),
        (OFFER % "Bad Name", "must be lowercase"),
        ("from gateway.plugin import *\n@hookimpl\ndef gateway_auditers(): return []", "unknown hook"),
        ("from gateway.plugin import *\n@hookimpl\ndef gateway_auditors(): return 5", "must give a list"),
        ("from gateway.plugin import *\n@hookimpl\ndef gateway_auditors(): return ['phi']", "where a `Stage` belongs"),
        (
            "from gateway.plugin import *\n@hookimpl\ndef gateway_auditors(): raise KeyError('SECRET')",
            "failed (KeyError",
        ),
        (
            "from gateway.plugin import *\n@hookimpl\ndef gateway_auditors(): return [Stage('x', dict, dict)]",
            "Struct type",
        ),
    ],
)
def test_a_faulty_plugin_stops_the_start_by_name(tmp_path: Path, code: str, told: str) -> None:
    _installed(tmp_path, "mine", code)
    printed = _load(tmp_path).stdout
    assert told in printed and "mine" in printed
    assert "SECRET" not in printed


def test_two_faults_are_told_at_once(tmp_path: Path) -> None:
    _installed(tmp_path, "one", "raise RuntimeError")
    _installed(tmp_path, "two", OFFER % "phi")
    printed = _load(tmp_path).stdout
    assert "`one`" in printed and "gateway-two" in printed
