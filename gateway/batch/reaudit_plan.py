"""What a re-audit is to do: the candidates and how they are tried, as the batch holds them in its options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.bootstrap import config_digest, named_stages
from gateway.errors import ConfigurationError
from gateway.policy.load import read_policy
from gateway.policy.model import LoadedPolicy, convert
from gateway.policy.models import for_model
from gateway.records import DecisionV1
from gateway.records.restore import Configs
from gateway.registry import Registry


class Candidate(Struct, frozen=True, kw_only=True):
    """A policy that is tried: its text, the SHA-256 of its file in hex, and where it was read from."""

    text: str
    digest: str
    file: str

    @classmethod
    def of(cls, loaded: LoadedPolicy) -> Candidate:
        """Take the file of a policy that was loaded. Raises ConfigurationError where it was changed meanwhile."""
        try:
            data = Path(loaded.path).read_bytes()
        except OSError as exc:
            raise ConfigurationError(f"{loaded.path}: can not be read again ({exc.strerror})") from None
        if hashlib.sha256(data).hexdigest() != loaded.digest:
            raise ConfigurationError(f"{loaded.path}: was changed meanwhile; try again")
        return cls(text=data.decode(), digest=loaded.digest, file=loaded.path)


class Options(Struct, frozen=True, kw_only=True):
    """What is done, with the `candidates` by department.

    With `content` those stages look at sealed content of whom the record has no word; with `all_stages` every
    pre-screener and auditor of the candidate does, and each of `auditors` in any case. `other_config` takes what stages
    have said that the candidate configures otherwise. `filter` is what the decisions were searched by.
    """

    candidates: dict[str, Candidate]
    content: bool = False
    all_stages: bool = False
    auditors: tuple[str, ...] = ()
    other_config: bool = False
    why: str | None = None
    filter: str | None = None

    def plain(self) -> dict[str, Any]:
        """Give them as plain data, as a batch keeps them."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


class Plan(Struct, frozen=True, kw_only=True):
    """Options with the candidates read, and the digests of the configurations that they give their stages.

    Both are by department and model, under None for the default.
    """

    options: Options
    policies: Mapping[tuple[str, str | None], LoadedPolicy]
    configs: Mapping[tuple[str, str | None], Configs]

    def place(self, record: DecisionV1) -> tuple[str, str | None]:
        """Give under what the candidate for a decision stands, as it holds for the model that was asked for.

        A candidate without that model is taken as it holds for its default.
        """
        place = record.department, record.model
        return place if place in self.policies else (record.department, None)


def options_of(plain: Mapping[str, Any]) -> Options:
    """Read the options of a batch. Raises ConfigurationError where they are none of a re-audit."""
    try:
        return msgspec.convert(plain, Options)
    except msgspec.ValidationError:
        raise ConfigurationError(
            "the batch has no options of a re-audit; make it with `gateway batch reaudit`"
        ) from None


def plan_of(options: Options, registry: Registry) -> Plan:
    """Read the candidates. Raises ConfigurationError with every problem, as where a plugin is not installed here."""
    policies: dict[str, LoadedPolicy] = {}
    lines: list[str] = []
    for department, candidate in options.candidates.items():
        try:
            policies[department] = read_policy(candidate.text.encode(), Path(candidate.file), registry.configs())
        except ConfigurationError as exc:
            lines += exc.problems
            continue
        if policies[department].digest != candidate.digest or policies[department].policy.department != department:
            lines.append(f"{candidate.file}: the candidate in the batch was changed; make the batch anew")
    if lines:
        raise ConfigurationError(*lines)
    each = {
        (department, name): replace(loaded, policy=for_model(loaded.policy, name))
        for department, loaded in policies.items()
        for name in (None, *loaded.policy.models)
    }
    configs = {place: configs_of(loaded, registry) for place, loaded in each.items()}
    return Plan(options=options, policies=each, configs=configs)


def configs_of(loaded: LoadedPolicy, registry: Registry) -> Configs:
    """Give the digests of the configurations that a policy gives its stages, its default model's among them."""
    return {
        (kind, name): config_digest(convert(config, registry.offers[kind][name].stage.config))
        for kind, name, _, config in named_stages(loaded)
    }
