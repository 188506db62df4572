"""The public surface is exact, and the built-in plugins use nothing else, as strangers could not."""

import ast
import types
from pathlib import Path

import pytest
from support import ROOT

from gateway import plugin

ALLOWED = {"gateway.plugin"}
SOURCES = sorted(p for p in (ROOT / "plugins").rglob("*.py") if "build" not in p.parts)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "gateway"}
    return {name for name in found if name == "gateway" or name.startswith("gateway.")} - {"gateway"}


def test_the_surface_is_exactly_what_it_says() -> None:
    public = {
        name
        for name, value in vars(plugin).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, types.ModuleType)
    }
    assert public == set(plugin.__all__)
    assert list(plugin.__all__) == sorted(plugin.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_plugin_imports_the_public_surface_alone(path: Path) -> None:
    allowed = ALLOWED | ({"gateway.testing"} if "tests" in path.parts else set())
    assert _imports(path) <= allowed
