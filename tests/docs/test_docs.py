"""The documentation is true: its snippets run, its generated parts are current, its links lead somewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT, Serve, Upstream, policy

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_reference_is_current() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.TARGET.read_text() == generate.render(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_stage_of_the_docs_passes_its_contract(tmp_path: Path) -> None:
    code = "\n".join(snippets(ROOT / "docs" / "stages.md", "python"))
    assert "check_stage" in code
    script = tmp_path / "snippet.py"
    script.write_text(code)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_the_readme_client_runs(serve: Serve, upstream: Upstream, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    served = serve({"radiology": policy(upstream.url)})
    script = tmp_path / "client.py"
    script.write_text("\n".join(snippets(ROOT / "README.md", "python")))
    env = {
        **os.environ,
        "GATEWAY_URL": served.base + "/v1",
        "GATEWAY_KEY": served.key(),
        "SCAN": str(get_testdata_file("CT_small.dcm")),
    }
    result = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("stop ") and str(upstream.answer) in result.stdout
    assert result.stdout.endswith("[True, False]\n"), "the first input is flagged, the second is not"


def test_the_readme_curl_runs(serve: Serve, upstream: Upstream) -> None:
    served = serve({"radiology": policy(upstream.url)})
    command = next(s for s in snippets(ROOT / "README.md", "console") if "curl" in s)
    command = command.removeprefix("$ ").replace("http://127.0.0.1:8080", served.base)
    env = {**os.environ, "KEY": served.key()}
    result = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60)
    assert str(upstream.answer) in result.stdout, result.stderr


def test_yaml_snippets_are_policies_or_parts_of_one() -> None:
    from gateway.policy.model import Policy

    fields = set(Policy.__struct_fields__)
    for page in PAGES:
        for snippet in snippets(page, "yaml"):
            loaded = yaml.safe_load(snippet)
            if isinstance(loaded, dict):
                assert set(loaded) <= fields, f"{page.name}: {set(loaded) - fields}"


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", (ROOT / "README.md").read_text())) - {"a"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
