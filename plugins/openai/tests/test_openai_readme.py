"""What the README says of settings and faults is what the code has."""

import re
from pathlib import Path

import msgspec
import yaml

from gateway_openai import Config, Server, errors

README = (Path(__file__).parent.parent / "README.md").read_text()


def rows(heading):
    section = README.split(heading, 1)[1]
    return re.findall(r"^\| `([^`]+)` \|([^|\n]*)(?:\|.*)?\|$", section.split("\n## ")[0], re.MULTILINE)


def test_the_examples_are_configurations():
    examples = [yaml.safe_load(text)["backend"] for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    assert [example["stage"] for example in examples] == ["openai", "openai"]
    one, several = (msgspec.convert(example["config"], Config) for example in examples)
    assert one.base_url == "http://vllm:8000/v1"
    assert [(server.weight, server.model) for server in several.upstreams] == [(3, None), (1, "medgemma")]


def test_every_setting_is_told_with_its_default():
    told = {name: default.strip().strip("`") for name, default in rows("# gateway-openai")}
    fields = {field.name: field.default for field in msgspec.structs.fields(Config)}
    assert set(told) == set(fields)
    for name, default in fields.items():
        if isinstance(default, bool):
            assert told[name] == str(default).lower()
        elif isinstance(default, int | float):
            assert float(told[name]) == default
        elif isinstance(default, str):
            assert told[name] == default
    assert all(f"`{field}`" in README for field in Server.__struct_fields__)


def test_every_fault_is_told():
    names = {f"raised:{name}" for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert {name for name, _ in rows("## Faults")} == names - {"raised:UpstreamError"}
