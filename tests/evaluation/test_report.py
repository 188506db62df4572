"""Where a report says that its policy lies."""

from pathlib import Path

import pytest

from gateway.evaluation.report import _near


def test_a_policy_is_named_from_here_where_it_lies_below(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert _near(str(tmp_path / "policies" / "radiology.yaml")) == "policies/radiology.yaml"
    assert _near("policies/radiology.yaml") == "policies/radiology.yaml"
    assert _near("/elsewhere/radiology.yaml") == "/elsewhere/radiology.yaml"
