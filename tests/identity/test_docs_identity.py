"""What docs/identity.md shows works: the file loads, the commands run, the defaults are those of the code."""

import re
import shlex
import subprocess

import pytest
from support import GATEWAY, ROOT

from gateway.identity.load import load_identity
from gateway.identity.model import Issuer
from gateway.policy.model import Duration
from gateway.records.permissions import _MAY
from gateway.settings import _READ

PAGE = ROOT / "docs" / "identity.md"


def commands():
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line]


def test_the_identity_file_loads(tmp_path):
    (text,) = re.findall(r"^```yaml identity\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    file = tmp_path / "identity.yaml"
    file.write_text(text)
    (issuer,), _ = load_identity(file, ("radiology",))
    assert [rule.gives.roles for rule in issuer.rules] == [("officer",), ("caller",), ("auditor",)]


def test_the_commands_run(tmp_path):
    def run(command):
        words = shlex.split(command)
        assert words[0] == "gateway"
        place = ["--data-dir", str(tmp_path / "data")]
        if words[2] == "create":
            place += ["--policies-dir", str(ROOT / "policies")]
        done = subprocess.run([*GATEWAY, *words[1:], *place], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    told = [run(line) for line in commands() if line.startswith("gateway keys") and "$KEY_ID" not in line]
    assert len(told) == 4
    key = re.search(r"gw_([0-9a-f]{12})_", told[0])[1]
    assert key in told[3] and "officer-2" in told[3] and "read, search" in told[3]
    later = [run(line.replace("$KEY_ID", key)) for line in commands() if "$KEY_ID" in line]
    assert len(later) == 3
    assert "works until" in later[0] and "has ended" in later[1] and "is revoked" in later[2]


@pytest.mark.parametrize("name", ["leeway", "max_age", "refresh", "cooldown", "stale"])
def test_the_defaults_are_those_of_the_code(name):
    row = re.search(rf"^\| `{name}` \|.*\| `(\w+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert Duration.parse(row[1]) == Issuer.__struct_defaults__[Issuer.__struct_fields__.index(name) - required()]


def required():
    return len(Issuer.__struct_fields__) - len(Issuer.__struct_defaults__)


def test_the_settings_and_roles_of_the_page_exist():
    page = PAGE.read_text()
    assert set(re.findall(r"GATEWAY_[A-Z_]+", page)) <= set(_READ)
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page.split("## API keys")[0], re.MULTILINE))
    assert set(told) == set(_MAY)
    words = {
        "ask": "ask",
        "keys": "manage keys",
        "figures": "figures",
        "verify": "check the log",
        "break-glass": "glass",
    }
    for role, permissions in _MAY.items():
        for permission in permissions:
            assert words.get(permission, permission) in told[role], (role, permission)
    assert set(re.findall(r"`(\w+)`", page.split("| key | meaning |")[1].split("\n\n")[0])) >= {
        name for name in Issuer.__struct_fields__ if name not in ("id", "issuer", "audience", "person", "rules")
    }
