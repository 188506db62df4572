"""Change thresholds or a budget in a policy's text, and nothing else of it: comments, order and layout stay."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import os
import tempfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import yaml

from gateway.errors import ConfigurationError, Unavailable
from gateway.policy.cases import load_cases, run_cases
from gateway.policy.load import Offers, load_policies
from gateway.policy.model import LoadedPolicy
from gateway.policy.nodes import Problems, child, items, parse


def load_text(path: Path, data: bytes, offers: Offers) -> LoadedPolicy:
    """Load `data` as the gateway would load it from `path`. Raises ConfigurationError that names `path`."""
    with tempfile.TemporaryDirectory(prefix="gateway-policy-") as folder:
        file = Path(folder) / path.name
        file.write_bytes(data)
        try:
            loaded = load_policies(Path(folder), offers)
        except ConfigurationError as exc:
            lines = (line.replace(str(file), str(path)).replace(folder, str(path)) for line in exc.problems)
            raise ConfigurationError(*lines) from None
    return msgspec.structs.replace(next(iter(loaded.values())), path=str(path))


def read_policy(path: Path) -> bytes:
    """Read a policy's file. Raises ConfigurationError where that fails."""
    if path.suffix != ".yaml":
        raise ConfigurationError(f"{path}: policies end in `.yaml`; name the policy's file")
    try:
        return path.read_bytes()
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        raise ConfigurationError(f"{path}: can not be read ({why}); name the policy's file") from None


def with_tiers(path: Path, data: bytes, belows: Sequence[float], offers: Offers) -> tuple[bytes, LoadedPolicy]:
    """Give the policy's text with these `below` values and the next revision, and the policy that it then is.

    Raises ConfigurationError where the text does not load, or would say anything else than it did.
    """
    before = load_text(path, data, offers)
    problems = Problems(path)
    root = parse(data, problems)
    changes: dict[tuple[int, int], str] = {}
    for tier, old, new in zip(items(child(root, "tiers")), before.policy.tiers, belows, strict=True):
        if old.below != new:
            changes[_span(child(tier, "below"))] = number(new)
    revision = before.policy.revision + 1
    changes[_span(child(root, "revision"))] = str(revision)
    made = _changed(data, changes)
    after = load_text(path, made, offers)
    tiers = tuple(msgspec.structs.replace(t, below=b) for t, b in zip(before.policy.tiers, belows, strict=True))
    if after.policy != msgspec.structs.replace(before.policy, tiers=tiers, revision=revision):
        raise ConfigurationError(f"{path}: is written in a way that can not be changed safely; set `below` by hand")
    return made, after


def with_budget(
    path: Path, data: bytes, tier: int, demonstrations: int, mix: float, offers: Offers
) -> tuple[bytes, LoadedPolicy]:
    """Give the policy's text with this budget in a tier and the next revision, and the policy that it then is.

    Raises ConfigurationError where there is no such tier, or the text does not load or would say anything else.
    """
    before = load_text(path, data, offers)
    tiers = before.policy.tiers
    if not 0 <= tier < len(tiers):
        raise ConfigurationError(f"{path}: has no tier {tier}; its tiers are 0 to {len(tiers) - 1}")
    root = parse(data, Problems(path))
    budget = child(items(child(root, "tiers"))[tier], "budget")
    old, revision = tiers[tier].budget, before.policy.revision + 1
    changes: dict[tuple[int, int], str] = {_span(child(root, "revision")): str(revision)}
    count, share = child(budget, "demonstrations"), child(budget, "mix")
    words = str(demonstrations)
    if share is not None:
        if old.mix != mix:
            changes[_span(share)] = number(mix)
    elif old.mix != mix:
        assert isinstance(budget, yaml.MappingNode)  # noqa: S101 - the policy has loaded, so it is one
        if budget.flow_style:
            words += f", mix: {number(mix)}"
        else:  # before the first key, so that a comment behind a value stays with its value
            start, end = budget.start_mark, "\r\n" if b"\r\n" in data else "\n"
            changes[start.index, start.index] = f"mix: {number(mix)}{end}{' ' * start.column}"
    if str(old.demonstrations) != words:
        changes[_span(count)] = words
    made = _changed(data, changes)
    after = load_text(path, made, offers)
    changed = msgspec.structs.replace(old, demonstrations=demonstrations, mix=mix)
    new = tuple(
        msgspec.structs.replace(old_tier, budget=changed) if place == tier else old_tier
        for place, old_tier in enumerate(tiers)
    )
    if after.policy != msgspec.structs.replace(before.policy, tiers=new, revision=revision):
        raise ConfigurationError(f"{path}: is written in a way that can not be changed safely; set the budget by hand")
    return made, after


def cases_of(path: Path) -> Path:
    """Name the file of a policy's cases, which need not be there."""
    return path.parent / "cases" / path.name


def with_cases(path: Path, before: LoadedPolicy, after: LoadedPolicy, tier: int) -> tuple[bytes, bytes] | None:
    """Give the text of the cases before and after, where cases repeat the tier's old budget; None where none does.

    A case that says what a tier buys says it once more than the policy does, so it changes with it.

    Raises ConfigurationError where the file of cases can not be read.
    """
    file = cases_of(path)
    if not file.is_file():
        return None
    load_cases(file, before.policy)
    data = read_policy(file)
    old, new = before.policy.tiers[tier].budget, after.policy.tiers[tier].budget
    changes: dict[tuple[int, int], str] = {}
    for case in items(parse(data, Problems(file))):
        admit = child(child(case, "expect"), "admit")
        if _value(child(admit, "tier")) != tier:
            continue
        count, mix = child(admit, "demonstrations"), child(admit, "mix")
        if _value(count) == old.demonstrations != new.demonstrations:
            changes[_span(count)] = str(new.demonstrations)
        if _value(mix) == old.mix != new.mix:
            changes[_span(mix)] = number(new.mix)
    return (data, _changed(data, changes)) if changes else None


def _value(node: yaml.Node | None) -> float | None:
    try:
        return float(node.value) if isinstance(node, yaml.ScalarNode) else None
    except ValueError:
        return None


def cases_broken(path: Path, before: LoadedPolicy, after: LoadedPolicy, changed: bytes | None = None) -> list[str]:
    """Name the policy's cases that held and would hold no longer; `changed` is what the file of cases is to be.

    Raises ConfigurationError where the file of cases can not be read.
    """
    file = cases_of(path)
    if not file.is_file():
        return []
    cases = load_cases(file, before.policy)
    held = {result.case for result in run_cases(before.policy, cases) if result.problem is None}
    if changed is not None:
        with tempfile.TemporaryDirectory(prefix="gateway-cases-") as folder:
            other = Path(folder) / file.name
            other.write_bytes(changed)
            cases = load_cases(other, after.policy)
    return [r.case for r in run_cases(after.policy, cases) if r.problem is not None and r.case in held]


def difference(path: Path, before: bytes, after: bytes, why: str) -> str:
    """Give what changes, as `diff -U0` writes it; `why` stands behind the name of the new text."""
    old, new = (data.decode("utf-8-sig").splitlines() for data in (before, after))
    return "\n".join(difflib.unified_diff(old, new, str(path), f"{path} ({why})", lineterm="", n=0))


def number(value: float) -> str:
    """Write a number as YAML 1.2 and people read it: without an exponent, and so that it reads back the same."""
    return f"{Decimal(repr(value)):f}"


def _span(node: yaml.Node | None) -> tuple[int, int]:
    assert node is not None  # noqa: S101 - the policy has loaded, so the key is there
    return node.start_mark.index, node.end_mark.index


def _changed(data: bytes, changes: Mapping[tuple[int, int], str]) -> bytes:
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    text = data.removeprefix(codecs.BOM_UTF8).decode()
    for (start, end), new in sorted(changes.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return mark + text.encode()


def write_policy(path: Path, data: bytes, before: bytes) -> None:
    """Put `data` in the place of `before`, in one step and with the file's mode; a link is followed.

    Raises Unavailable where it can not be written, or where the file has changed meanwhile.
    """
    target = path.resolve()
    handle, name = -1, ""
    try:
        if target.read_bytes() != before:
            raise Unavailable(f"{path}: has changed meanwhile; nothing was written; run the command again")
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(target.stat().st_mode & 0o777)
        Path(name).replace(target)
    except OSError as exc:
        if name:
            with contextlib.suppress(OSError):
                Path(name).unlink()
        why = exc.strerror or type(exc).__name__
        raise Unavailable(f"{path}: can not be written ({why}); nothing was changed") from None
