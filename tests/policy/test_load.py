"""Loading: every mistake of every file at once, each with its line, path and a hint."""

# ruff: noqa: E501 - a table reads best with one row a line
from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.policy.load import load_policies
from gateway.policy.model import Duration
from gateway.stages import NoConfig


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: str
    model: str
    api_key: str | None = None
    retries: int = 2
    modes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.base_url.startswith("ftp"):
            raise ValueError("base_url begins with `http://` or `https://`")


OFFERS = {
    "prescreener": {"intent": NoConfig, "image-text": NoConfig},
    "injector": {"clinical": NoConfig},
    "backend": {"transformers": NoConfig, "openai": ServerConfig},
    "auditor": {"refusal": NoConfig, "phi": NoConfig},
}
GOOD = """\
department: radiology
revision: 3
backend: {stage: openai, deadline: 30s, config: {base_url: "http://vllm:8000/v1", model: medgemma}}
prescreen:
  - {stage: intent, deadline: 250ms}
  - {stage: image-text}
demonstrations: {stage: clinical}
audit: [{stage: refusal}, {stage: phi, on_finding: redact}]
tiers:
  - {below: 0.2, budget: {demonstrations: 4, mix: 0.5}}
  - {below: 0.9, budget: {demonstrations: 8}}
"""


def problems(folder: Path, text: str | bytes | None = None, name: str = "radiology.yaml") -> list[str]:
    """Load and give the problems, each without the folder."""
    if text is not None:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigurationError) as caught:
        load_policies(folder, OFFERS)
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_good_policy_loads_with_its_digest_and_path(tmp_path):
    file = tmp_path / "radiology.yaml"
    file.write_text(GOOD)
    loaded = load_policies(tmp_path, OFFERS)["radiology"]
    assert loaded.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert loaded.path == str(file)
    assert loaded.policy.prescreen[0].deadline == Duration(seconds=0.25)
    assert loaded.policy.tiers[1].budget.mix == 0.5
    assert msgspec.convert(loaded.policy.backend.config, ServerConfig).model == "medgemma"


def test_all_mistakes_of_all_files_show_at_once(tmp_path):
    (tmp_path / "emergency.yaml").write_text("department: emergency\n")
    lines = problems(tmp_path, changed("revision: 3", "revison: 0").replace("250ms", "250").replace("0.9", "0.1"))
    assert lines == [
        "emergency.yaml:1: revision: missing; expected a whole number, at least 1",
        "emergency.yaml:1: backend: missing; expected a mapping",
        "emergency.yaml:1: prescreen: missing; expected a list",
        "emergency.yaml:1: audit: missing; expected a list",
        "emergency.yaml:1: tiers: missing; expected a list",
        "radiology.yaml:1: revision: missing; expected a whole number, at least 1",
        "radiology.yaml:2: revison: unknown key; did you mean `revision`?",
        "radiology.yaml:5: prescreen[0].deadline: expected a duration above zero with its unit, such as `250ms`, `2s` "
        "or `30d`, got `250`; write `250s` if seconds are meant",
        "radiology.yaml:11: tiers[1].below: `0.1` does not exceed the tier before it (`0.2`); "
        "let `below` rise from tier to tier",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("revision: 3", 'revision: "3"', ':2: revision: expected a whole number, at least 1, got `"3"`; remove the quotes'),
        ("revision: 3", "revision: true", ":2: revision: expected a whole number, at least 1, got `true`"),
        ("revision: 3", "revision:", ":2: revision: expected a whole number, at least 1, got nothing"),
        ("mix: 0.5", "mix: 50%", ":10: tiers[0].budget.mix: expected a number in 0..1, got `50%`; write `0.5`"),
        ("mix: 0.5", "mix: .nan", ":10: tiers[0].budget.mix: expected a number in 0..1, got `.nan`"),
        ("below: 0.9", "below: 1.5", ":11: tiers[1].below: expected a number, above 0 and at most 1, got `1.5`"),
        ("below: 0.9", "below: 0.2", ":11: tiers[1].below: `0.2` does not exceed the tier before it (`0.2`); let `below` rise from tier to tier"),
        ("demonstrations: 8", "demonstrations: 65", ":11: tiers[1].budget.demonstrations: expected a whole number in 0..64, got `65`"),
        ("demonstrations: 8", "demonstrations: 8.0", ":11: tiers[1].budget.demonstrations: expected a whole number in 0..64, got `8.0`"),
        ("30s", "0s", ":3: backend.deadline: expected a duration above zero with its unit, such as `250ms`, `2s` or `30d`, got `0s`"),
        ("30s", "30 parsecs", ":3: backend.deadline: expected a duration above zero with its unit, such as `250ms`, `2s` or `30d`, got `30 parsecs`"),
        ("on_finding: redact", "on_finding: redct", ":8: audit[1].on_finding: expected `note` or `redact` or `withhold`, got `redct`; did you mean `redact`?"),
        ("{stage: image-text}", "{stage: image-text, allow_if_unavailable: yes}", ":6: prescreen[1].allow_if_unavailable: expected `true` or `false`, got `yes`"),
        ("{stage: image-text}", "image-text", ":6: prescreen[1]: expected a mapping, got `image-text`; write `{stage: image-text}`"),
        ("demonstrations: {stage: clinical}", "demonstrations: clinical", ":7: demonstrations: expected a mapping or nothing, got `clinical`; write `{stage: clinical}`"),
        ("audit: [{stage: refusal}, {stage: phi, on_finding: redact}]", "audit: []", ":8: audit: expected 1 or more entries, got 0; write what is missing"),
        ("audit: [{stage: refusal}, {stage: phi, on_finding: redact}]", "audit: {stage: phi}", ":8: audit: expected a list, got a mapping; begin each entry with `- `"),
        ("department: radiology", "department: radiolgy", ":1: department: `radiolgy` is not the file's name; write `department: radiology`, or rename the file to `radiolgy.yaml`"),
        ("stage: image-text", "stage: image-txt", ":6: prescreen[1].stage: no installed plugin offers the pre-screener `image-txt`; did you mean `image-text`? installed: `image-text`, `intent`"),
        ("stage: image-text", "stage: phi", ":6: prescreen[1].stage: no installed plugin offers the pre-screener `phi`; it is offered as auditor: put it under `audit`"),
        ("stage: clinical", "stage: zzz", ":7: demonstrations.stage: no installed plugin offers the injector `zzz`; installed: `clinical`"),
        ("stage: image-text", "stage: intent", ":6: prescreen[1].stage: `intent` stands twice, first at `prescreen[0]`; remove one"),
        (", model: medgemma", "", ":3: backend.config.model: missing; expected text"),
        ("model: medgemma", "modell: medgemma, model: m", ":3: backend.config.modell: unknown key; did you mean `model`?"),
        ("model: medgemma", "model: m, retries: many", ":3: backend.config.retries: expected a whole number, got `many`"),
        ("model: medgemma", "model: m, modes: [a, 3]", ":3: backend.config.modes[1]: expected text, got `3`; put it in quotes"),
        ("model: medgemma", "model: m, api_key: 12345", ":3: backend.config.api_key: expected text, got another value (not shown, it may be secret); put it in quotes"),
        ("http://vllm", "ftp://vllm", ":3: backend.config: base_url begins with `http://` or `https://`"),
        (', config: {base_url: "http://vllm:8000/v1", model: medgemma}', "", ":3: backend.config.model: missing; expected text"),
        ("stage: refusal}", "stage: refusal, config: {colour: red}}", ":8: audit[0].config.colour: unknown key; there are none"),
        ("demonstrations: {stage: clinical}\n", "", ":9: tiers[0].budget.demonstrations: no stage gives demonstrations here; add `demonstrations: {stage: …}`, or write 0"),
        ("revision: 3", "revision: 3\nrevision: 4", ":3: revision: stands twice, first in line 2; remove one"),
        ("model: medgemma", "model: m, model: n", ":3: backend.config.model: stands twice, first in line 3; remove one"),
        ("revision: 3", "revision: 3\n7: x", ":3: keys are text; put other keys in quotes"),
        ("revision: 3", "revision: !!python/name:os.system x", ":2: revision: the tag `!!python/name:os.system` is not taken; write plain values"),
        ("revision: 3", "revision: !!int x", ":2: revision: can not be read as the type it looks like; put text in quotes"),
        ("revision: 3", f"revision: {'9' * 5000}", ":2: revision: can not be read as the type it looks like; put text in quotes"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_line_path_and_hint(tmp_path, old, new, expected):
    assert f"radiology.yaml{expected}" in problems(tmp_path, changed(old, new))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "radiology.yaml: is empty"),
        ("# only a comment\n", "radiology.yaml: is empty"),
        ("just words\n", "radiology.yaml:1: expected a mapping, got `just words`"),
        ("- a\n- b\n", "radiology.yaml:1: expected a mapping, got a list"),
        (GOOD + "---\n" + GOOD, "radiology.yaml:12: a second document begins here; write one document in each file"),
        (GOOD.encode().replace(b"medgemma", b"m\xff"), "radiology.yaml:3: is not UTF-8 here; save the file as UTF-8"),
        (GOOD.encode("utf-16"), "radiology.yaml:1: is not UTF-8 here; save the file as UTF-8"),
        ("department: radiology\n\tx: 1\n", "radiology.yaml:2: is not YAML: found character '\\t' that cannot start any token"),
        ("a: b\x07\n", "radiology.yaml:1: is not YAML: it holds a character that YAML does not take"),
        ("department: [radiology\n", "radiology.yaml:2: is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: " + "[" * 5000, "radiology.yaml:1: is nested deeper than 32 levels"),
        ("a: &x [1]\nb: *x\n", "radiology.yaml:2: the alias `*x` is not taken; write the value out where it counts"),
        ("a: &x [*x]\n", "radiology.yaml:1: the alias `*x` is not taken; write the value out where it counts"),
        ("#" * 300_000, "radiology.yaml: is larger than 262144 bytes; a policy is a page or two"),
    ],
    ids=lambda value: None if len(value) > 60 else value,
)  # fmt: skip
def test_a_file_that_can_not_be_read_at_all(tmp_path, text, expected):
    assert problems(tmp_path, text) == [expected]


class Crashing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    def __post_init__(self) -> None:
        raise KeyError("a plugin's mistake")


class Unreadable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lock: Path = Path()


def test_a_plugins_broken_configuration_type_hides_no_other_mistake(tmp_path):
    (tmp_path / "radiology.yaml").write_text(changed("revision: 3", "revision: 0"))
    offers = OFFERS | {"prescreener": {"intent": Crashing, "image-text": Unreadable}}
    with pytest.raises(ConfigurationError) as caught:
        load_policies(tmp_path, offers)
    text = "\n".join(caught.value.problems)
    assert "radiology.yaml:2: revision: expected" in text
    assert "radiology.yaml:5: prescreen[0].config: can not be read as `Crashing` (KeyError at " in text
    assert "a plugin's mistake" not in text


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    lines = problems(tmp_path, bomb)
    assert lines[0] == "radiology.yaml:2: the alias `*a0` is not taken; write the value out where it counts"
    assert len(lines) == 29


def test_a_byte_order_mark_is_taken(tmp_path):
    (tmp_path / "radiology.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert set(load_policies(tmp_path, OFFERS)) == {"radiology"}


def test_no_folder_and_no_policy(tmp_path):
    assert problems(tmp_path) == [f"{tmp_path}: holds no policy; add `<department>.yaml` for each department"]
    gone = tmp_path / "gone"
    assert problems(gone) == [
        f"{gone}: can not be read as a folder (No such file or directory); "
        "name another with --policies-dir or GATEWAY_POLICIES_DIR"
    ]


def test_what_is_no_policy_is_left_alone_and_what_looks_like_one_is_told(tmp_path):
    (tmp_path / "radiology.yaml").write_text(GOOD)
    (tmp_path / ".hidden.yaml").write_text("nonsense: [")
    (tmp_path / "notes.md").write_text("notes")
    (tmp_path / "radiology.yaml~").write_text("nonsense: [")
    (tmp_path / "cases").mkdir()
    assert set(load_policies(tmp_path, OFFERS)) == {"radiology"}
    (tmp_path / "emergency.yml").write_text(GOOD)
    assert problems(tmp_path) == ["emergency.yml: policies end in `.yaml`; rename it to `emergency.yaml`"]


def test_links_are_followed_and_broken_ones_told(tmp_path):
    data = tmp_path / "..data"
    data.mkdir()
    (data / "radiology.yaml").write_text(GOOD)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "radiology.yaml").symlink_to(data / "radiology.yaml")
    assert set(load_policies(mounted, OFFERS)) == {"radiology"}
    (mounted / "broken.yaml").symlink_to(mounted / "gone.yaml")
    (mounted / "folder.yaml").mkdir()
    os.mkfifo(mounted / "pipe.yaml")
    told = "is no regular file, or a link to one that is gone; remove it or put the file there"
    assert problems(mounted) == [f"{name}.yaml: {told}" for name in ("broken", "folder", "pipe")]


def test_yaml_is_read_as_1_2_so_that_no_word_turns_into_a_boolean(tmp_path):
    text = changed("revision: 3", "revision: 3\ndescription: no").replace("0.9", "9e-1")
    (tmp_path / "radiology.yaml").write_text(text)
    policy = load_policies(tmp_path, OFFERS)["radiology"].policy
    assert policy.description == "no"
    assert policy.tiers[1].below == 0.9
