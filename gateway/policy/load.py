"""Read the policies of a folder: one YAML file per department, strictly, with every mistake of every file at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

import yaml
from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.policy.model import LoadedPolicy, Policy
from gateway.policy.nodes import Problems, child, is_null, items, pairs, parse, plain, read_bytes
from gateway.policy.schema import schema
from gateway.policy.walk import closest, decode
from gateway.stages import Kind

__all__ = ["Offers", "load_candidates", "load_policies", "policy_files", "read_policy", "schema"]

Offers = Mapping[Kind, Mapping[str, type[Struct]]]
"""What is installed: by kind and name of stage, the type of its configuration."""

_WORDS: Mapping[Kind, tuple[str, str]] = {
    "prescreener": ("pre-screener", "prescreen"),
    "injector": ("injector", "demonstrations"),
    "backend": ("backend", "backend"),
    "auditor": ("auditor", "audit"),
}
"""By kind of stage: its name in words, and its key in a policy."""

_AUTO = "auto"
"""The name by which requests ask for the default model."""


def load_policies(folder: Path, offers: Offers) -> dict[str, LoadedPolicy]:
    """Load every policy in `folder`, by department.

    Raises ConfigurationError with every problem of every file, each ``file:line: path: problem; hint``, and where there
    is no folder or no policy in it. Links are followed; hidden files, folders and other files than YAML are left alone.
    """
    files, lines = policy_files(folder)
    loaded: dict[str, LoadedPolicy] = {}
    for file in files:
        problems = Problems(file)
        policy = _load(file, offers, problems)
        if policy is not None:
            loaded[policy.policy.department] = policy
        lines += problems.lines()
    if not files and not lines:
        lines = (f"{folder}: holds no policy; add `<department>.yaml` for each department",)
    if lines:
        raise ConfigurationError(*lines)
    return loaded


def load_candidates(places: Iterable[Path], offers: Offers) -> dict[str, LoadedPolicy]:
    """Load policies that are not in force, by department: each of `places` is a file of any name, or a folder.

    Raises ConfigurationError as `load_policies` does, and where two are for one department.
    """
    loaded: dict[str, LoadedPolicy] = {}
    lines: list[str] = []
    for place in places:
        files, wrong = policy_files(place) if place.is_dir() else ((place,), ())
        lines += wrong
        if not files and not wrong:
            lines.append(f"{place}: holds no policy; name a file, or add `<department>.yaml`")
        for file in files:
            problems = Problems(file)
            policy = _load(file, offers, problems, named=place.is_dir())
            lines += problems.lines()
            if policy is None:
                continue
            first = loaded.setdefault(policy.policy.department, policy)
            if first is not policy:
                lines.append(f"{file}: is for `{policy.policy.department}`, as is {first.path}; give one of the two")
    if lines:
        raise ConfigurationError(*lines)
    return loaded


def read_policy(data: bytes, file: Path, offers: Offers) -> LoadedPolicy:
    """Read a policy of bytes that came from `file`, whatever it was named. Raises ConfigurationError."""
    problems = Problems(file)
    policy = _read(data, file, offers, problems, named=False)
    if policy is None:
        raise ConfigurationError(*problems.lines())
    return policy


def policy_files(folder: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """List the YAML files of a folder, sorted, and the problems with what looks like one and is none."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as exc:
        why = f"can not be read as a folder ({exc.strerror or type(exc).__name__})"
        return (), (f"{folder}: {why}; name another with --policies-dir or GATEWAY_POLICIES_DIR",)
    files = tuple(entry for entry in entries if not entry.name.startswith(".") and entry.suffix == ".yaml")
    # A file that would silently not count is a department without its policy.
    odd = (
        e for e in entries if not e.name.startswith(".") and e.suffix.lower() in (".yaml", ".yml") and e not in files
    )
    return files, tuple(f"{entry}: policies end in `.yaml`; rename it to `{entry.stem}.yaml`" for entry in odd)


def _load(file: Path, offers: Offers, problems: Problems, *, named: bool = True) -> LoadedPolicy | None:
    data = read_bytes(file, problems)
    return None if data is None else _read(data, file, offers, problems, named=named)


def _read(data: bytes, file: Path, offers: Offers, problems: Problems, *, named: bool) -> LoadedPolicy | None:
    """Read a policy; where it is `named` by its department its file must be, too."""
    root = parse(data, problems)
    if root is None:
        return None
    policy = decode(root, Policy, "", problems)
    if named:
        _check_department(root, file, problems)
    _check_stages(root, offers, problems)
    _check_models(root, problems)
    _check_tiers(root, problems)
    _check_between(root, problems)
    _check_demonstrations(root, problems)
    _check_content(root, problems)
    if policy is None or len(problems):
        return None
    return LoadedPolicy(policy=policy, digest=hashlib.sha256(data).hexdigest(), path=str(file))


def _check_department(root: yaml.Node, file: Path, problems: Problems) -> None:
    node = child(root, "department")
    if isinstance(node, yaml.ScalarNode) and node.value != file.stem:
        hint = f"write `department: {file.stem}`, or rename the file to `{node.value}.yaml`"
        problems.add(node, "department", f"`{node.value}` is not the file's name; {hint}")


def _specs(root: yaml.Node) -> Iterator[tuple[Kind, str, yaml.Node]]:
    """Give kind, path and node of each place where a stage is named."""
    for kind in get_args(Kind):
        key = _WORDS[kind][1]
        node = child(root, key)
        if isinstance(node, yaml.MappingNode):
            yield kind, key, node
        for place, item in enumerate(items(node)):
            yield kind, f"{key}[{place}]", item
    for name, _, node in pairs(child(root, "models")):
        yield "backend", f"models.{name}", node


def _check_stages(root: yaml.Node, offers: Offers, problems: Problems) -> None:
    """Check that each stage is installed, stands once (models may share one), and takes its configuration."""
    seen: dict[tuple[Kind, str], str] = {}
    for kind, path, spec in _specs(root):
        name = child(spec, "stage")
        if not isinstance(name, yaml.ScalarNode):
            continue
        first = seen.setdefault((kind, name.value), path)
        if first != path and kind != "backend":
            problems.add(name, f"{path}.stage", f"`{name.value}` stands twice, first at `{first}`; remove one")
        config = offers.get(kind, {}).get(name.value)
        if config is None:
            told = f"no installed plugin offers the {_WORDS[kind][0]} `{name.value}`"
            problems.add(name, f"{path}.stage", f"{told}; {_elsewhere(kind, name.value, offers)}")
            continue
        empty = yaml.MappingNode("tag:yaml.org,2002:map", [], start_mark=spec.start_mark, end_mark=spec.end_mark)
        node = child(spec, "config") or empty
        if isinstance(node, yaml.MappingNode):
            decode(node, config, f"{path}.config", problems)


def _elsewhere(kind: Kind, name: str, offers: Offers) -> str:
    """Give a hint for a stage that is not offered: its right place, a name like it, or what is installed."""
    for other, named in offers.items():
        if other != kind and name in named:
            return f"it is offered as {_WORDS[other][0]}: put it under `{_WORDS[other][1]}`"
    names = sorted(offers.get(kind, {}))
    if not names:
        return f"no {_WORDS[kind][0]} is installed: install the plugin that offers it"
    near = closest(name, names)
    installed = "installed: " + ", ".join(f"`{known}`" for known in names)
    return f"{near} {installed}" if near.startswith("did") else installed


def _check_models(root: yaml.Node, problems: Problems) -> None:
    """Refuse a model by the name that stands for the default."""
    for name, key, _ in pairs(child(root, "models")):
        if name == _AUTO:
            hint = "give it another name, or write it as `backend`"
            problems.add(key, f"models.{name}", f"`{name}` asks for the default model; {hint}")


def _check_tiers(root: yaml.Node, problems: Problems) -> None:
    last: float | None = None
    for place, tier in enumerate(items(child(root, "tiers"))):
        node = child(tier, "below")
        value = _number(node)
        if node is None or value is None:
            continue
        if last is not None and value <= last:
            text = f"`{value:g}` does not exceed the tier before it (`{last:g}`); let `below` rise from tier to tier"
            problems.add(node, f"tiers[{place}].below", text)
        last = value


def _check_between(root: yaml.Node, problems: Problems) -> None:
    """Check that bands of risk are not empty, and that somebody is always asked."""
    specs = list(enumerate(items(child(root, "prescreen"))))
    bands = [(place, node) for place, spec in specs if (node := child(spec, "between")) is not None]
    for place, node in bands:
        low, high, *_ = [*(_number(end) for end in items(node)), None, None]
        if low is not None and high is not None and low >= high:
            text = f"`{low:g}` is not below `{high:g}`; write the lower risk first"
            problems.add(node, f"prescreen[{place}].between", text)
    if bands and len(bands) == len(specs):
        place, node = bands[0]
        text = "every pre-screener is a second opinion; let one of them be asked always (without `between`)"
        problems.add(node, f"prescreen[{place}].between", text)


def _check_demonstrations(root: yaml.Node, problems: Problems) -> None:
    """Refuse a budget of demonstrations that no stage would spend: the model would be asked undefended."""
    if child(root, "demonstrations") is not None:
        return
    budgets = [(f"tiers[{i}].budget", child(tier, "budget")) for i, tier in enumerate(items(child(root, "tiers")))]
    budgets.append(("over_defense.retry", child(child(root, "over_defense"), "retry")))
    for path, budget in budgets:
        node = child(budget, "demonstrations")
        if node is not None and _number(node):
            hint = "add `demonstrations: {stage: …}`, or write 0"
            problems.add(node, f"{path}.demonstrations", f"no stage gives demonstrations here; {hint}")


def _check_content(root: yaml.Node, problems: Problems) -> None:
    """Refuse to keep content without an end, and an end for what is not kept."""
    content = child(root, "content")
    keep, span = child(content, "keep"), child(content, "for")
    sealed = isinstance(keep, yaml.ScalarNode) and keep.value == "sealed"
    if sealed and keep is not None and (span is None or is_null(span)):
        problems.add(keep, "content.for", "sealed content needs an end; say how long it is kept, such as `for: 30d`")
    elif not sealed and span is not None:
        problems.add(span, "content.for", "nothing is kept here; write `keep: sealed`, or leave `for` out")


def _number(node: yaml.Node | None) -> float | None:
    if not isinstance(node, yaml.ScalarNode) or node.tag.rpartition(":")[2] not in ("int", "float"):
        return None
    try:
        return float(plain(node))
    except (ValueError, OverflowError):
        return None
