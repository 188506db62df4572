"""`gateway policy`: check the files, run their cases, print the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.output import as_json, settings_options, show
from gateway.policy.model import LoadedPolicy
from gateway.settings import read_settings


def _load(flags: dict[str, Any]) -> Mapping[str, LoadedPolicy]:
    from gateway.policy.load import load_policies
    from gateway.registry import load_registry

    return load_policies(read_settings(**flags).policies_dir, load_registry().configs())


@click.group()
def policy() -> None:
    """Policies: one YAML file per department."""


@policy.command()
@as_json
@settings_options("policies_dir")
def check(as_json: bool, **flags: Any) -> None:
    """Check every policy against its types and the installed stages; show every mistake, and each weakness."""
    from gateway.policy.lint import lint

    loaded = _load(flags)
    rows = [
        {
            "department": name,
            "revision": item.policy.revision,
            "digest": item.digest[:12],
            "warnings": [str(w) for w in lint(item.policy)],
        }
        for name, item in loaded.items()
    ]
    show(rows, ("department", "revision", "digest", "warnings"), json_wanted=as_json)


@policy.command()
@as_json
@settings_options("policies_dir")
def test(as_json: bool, **flags: Any) -> None:
    """Run the tables of cases in `cases/`; a policy without cases fails."""
    from gateway.policy.cases import check_cases

    results = check_cases(read_settings(**flags).policies_dir, _load(flags))
    rows = [
        {"department": r.department, "case": r.case, "result": "passed" if r.problem is None else r.problem}
        for r in results
    ]
    show(rows, ("department", "case", "result"), json_wanted=as_json)
    if any(r.problem is not None for r in results):
        raise SystemExit(1)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy, for editors."""
    from gateway.policy.load import schema as policy_schema

    click.echo(json.dumps(policy_schema(), indent=2))
