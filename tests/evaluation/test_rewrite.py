"""Only the thresholds and the revision of a policy's text change; what does not load is never written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from gateway.errors import ConfigurationError, Unavailable
from gateway.evaluation.rewrite import load_text, number, with_budget, with_tiers, write_policy
from gateway.stages import NoConfig

OFFERS = {
    "prescreener": {"spoken": NoConfig},
    "injector": {},
    "backend": {"none": NoConfig},
    "auditor": {"none": NoConfig},
}
TEXT = """# A comment with below: 0.5 and revision: 9 in it, and an ä.
department: radiology
revision: 3   # raise it
description: "below: 0.20"
backend: {stage: none}
prescreen: [{stage: spoken, threshold: 0.20}]
audit:
  - stage: none
tiers:   # the first whose `below` exceeds
  - {below: 0.20, budget: {demonstrations: 0, mix: 0.20}}   # everyday
  - budget:
      demonstrations: 0
    below: !!float "0.90"   # doubtful
"""


def changed(text: str, *belows: float) -> str:
    made, _ = with_tiers(Path("/p/radiology.yaml"), text.encode(), belows, OFFERS)
    return made.decode()


def test_nothing_else_changes() -> None:
    expected = TEXT.replace("{below: 0.20", "{below: 0.1234").replace('below: !!float "0.90"', "below: 0.7")
    assert changed(TEXT, 0.1234, 0.7) == expected.replace("revision: 3 ", "revision: 4 ")


def test_an_unchanged_tier_keeps_its_own_words() -> None:
    assert "below: 0.20, budget" in changed(TEXT, 0.2, 0.7)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends_stay(mark: str, end: str) -> None:
    text = mark + TEXT.replace("\n", end)
    made = changed(text, 0.1, 0.7)
    assert made.count(end) == text.count(end) and made.startswith(mark)
    assert len(made.splitlines()) == len(text.splitlines())


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=2, unique=True))
def test_any_tiers_read_back(values: list[float]) -> None:
    low, high = sorted(values)
    made, loaded = with_tiers(Path("/p/radiology.yaml"), TEXT.encode(), (low, high), OFFERS)
    assert [tier.below for tier in loaded.policy.tiers] == [low, high] and loaded.policy.revision == 4
    assert load_text(Path("/p/radiology.yaml"), made, OFFERS).policy == loaded.policy


GIVES = OFFERS | {"injector": {"plain": NoConfig}}
SHOWN = TEXT.replace("tiers:", "demonstrations: {stage: plain}\ntiers:")


def budgeted(text: str, tier: int, count: int, mix: float) -> str:
    made, _ = with_budget(Path("/p/radiology.yaml"), text.encode(), tier, count, mix, GIVES)
    return made.decode()


def test_a_budget_changes_and_nothing_else() -> None:
    expected = SHOWN.replace(
        "{demonstrations: 0, mix: 0.20}}   # everyday", "{demonstrations: 8, mix: 0.5}}   # everyday"
    )
    assert budgeted(SHOWN, 0, 8, 0.5) == expected.replace("revision: 3 ", "revision: 4 ")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mix_that_was_not_written_is_added(end: str) -> None:
    block = SHOWN.replace("demonstrations: 0\n", "demonstrations: 0   # none yet\n").replace("\n", end)
    made = budgeted(block, 1, 4, 0.25)
    assert f"      mix: 0.25{end}      demonstrations: 4   # none yet{end}" in made
    flow = SHOWN.replace(", mix: 0.20}}", "}}")
    assert "{demonstrations: 4, mix: 0.25}}   # everyday" in budgeted(flow, 0, 4, 0.25)
    assert "{demonstrations: 4}}   # everyday" in budgeted(flow, 0, 4, 0.5)  # 0.5 is what counts where none is written


@given(st.integers(0, 1), st.integers(0, 64), st.floats(0, 1))
def test_any_budget_reads_back(tier: int, count: int, mix: float) -> None:
    made, loaded = with_budget(Path("/p/radiology.yaml"), SHOWN.encode(), tier, count, mix, GIVES)
    budget = loaded.policy.tiers[tier].budget
    assert (budget.demonstrations, budget.mix, loaded.policy.revision) == (count, mix, 4)
    assert load_text(Path("/p/radiology.yaml"), made, GIVES).policy == loaded.policy


def test_a_tier_or_an_injector_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigurationError, match="has no tier 2; its tiers are 0 to 1"):
        budgeted(SHOWN, 2, 4, 0.5)
    with pytest.raises(ConfigurationError, match="no stage gives demonstrations here"):
        with_budget(Path("/p/radiology.yaml"), TEXT.encode(), 0, 4, 0.5, OFFERS)


@given(st.floats(1e-9, 1))
def test_numbers_are_plain_and_exact(value: float) -> None:
    assert float(number(value)) == value and "e" not in number(value).lower()


def test_tiers_that_do_not_rise_are_not_made() -> None:
    with pytest.raises(ConfigurationError, match=r"/p/radiology.yaml:13: tiers\[1\].below"):
        changed(TEXT, 0.7, 0.3)


def test_mistakes_name_the_file_itself() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(Path("/p/radiology.yaml"), b"department: radiology\n", OFFERS)
    assert all(line.startswith("/p/radiology.yaml:1: ") for line in caught.value.problems)


def test_a_file_is_written_in_one_step(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "radiology.yaml"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_policy(link, b"new", b"old")
    assert link.is_symlink() and real.read_bytes() == b"new" and real.stat().st_mode & 0o777 == 0o640
    with pytest.raises(Unavailable, match="has changed meanwhile"):
        write_policy(link, b"newer", b"old")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["radiology.yaml", "real.yaml"]


def test_every_shipped_policy_can_be_changed() -> None:
    from gateway.registry import load_registry

    offers = load_registry().configs()
    for path in sorted((ROOT / "policies").glob("*.yaml")):
        data = path.read_bytes()
        tiers = [t.below for t in load_text(path, data, offers).policy.tiers]
        new = [below / 2 for below in tiers]
        made, _ = with_tiers(path, data, new, offers)
        differing = [a for a, b in zip(data.splitlines(), made.splitlines(), strict=True) if a != b]
        assert len(differing) == len(tiers) + 1
