"""What a policy says of keeping: sealed content has an end, and nothing else has one; records have a class."""

import pytest
from policy.test_load import GOOD, OFFERS, problems

from gateway.policy.lint import lint
from gateway.policy.load import load_policies
from gateway.policy.model import Duration


def _loaded(folder, line):
    (folder / "radiology.yaml").write_text(f"{GOOD}\n{line}\n")
    return load_policies(folder, OFFERS)["radiology"].policy


@pytest.mark.parametrize(
    ("line", "keep", "span"),
    [
        ("", "none", None),
        ("content: {keep: none}", "none", None),
        ("content: {keep: sealed, for: 30d}", "sealed", Duration(seconds=30 * 86400.0)),
    ],
)
def test_what_is_kept(tmp_path, line, keep, span):
    policy = _loaded(tmp_path, line)
    assert (policy.content.keep, policy.content.for_) == (keep, span)
    assert policy.records.keep == "6y"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("content: {keep: sealed}", "content.for: sealed content needs an end"),
        ("content: {keep: sealed, for: null}", "content.for: sealed content needs an end"),
        ("content: {keep: none, for: 30d}", "content.for: nothing is kept here"),
        ("content: {for: 30d}", "content.for: nothing is kept here"),
        ("content: {keep: sealed, for: 30}", "content.for"),
        ("content: {keep: forever}", "content.keep"),
        ("records: {keep: 1y}", "records.keep"),
    ],
)
def test_what_can_not_be_meant(tmp_path, line, told):
    lines = problems(tmp_path, f"{GOOD}\n{line}\n")
    assert any(told in one for one in lines), lines


def test_what_is_worth_a_word(tmp_path):
    def paths(line):
        return {weakness.path for weakness in lint(_loaded(tmp_path, line))} & {"content.for", "records.keep"}

    assert paths("content: {keep: sealed, for: 365d}") == set()
    assert paths("content: {keep: sealed, for: 366d}") == {"content.for"}
    assert paths("records: {keep: 6mo}") == {"records.keep"}
    assert paths("records: {keep: 10y}") == set()
