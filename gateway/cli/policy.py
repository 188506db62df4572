"""`gateway policy`: check the files, run their cases, set their thresholds, print the schema."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.lists import Part
from gateway.cli.output import as_json, settings_options, show
from gateway.errors import ConfigurationError
from gateway.policy.model import LoadedPolicy
from gateway.settings import read_settings


def _load(flags: dict[str, Any]) -> Mapping[str, LoadedPolicy]:
    from gateway.policy.load import load_policies
    from gateway.registry import load_registry

    return load_policies(read_settings(**flags).policies_dir, load_registry().configs())


async def _fitting(loaded: Mapping[str, LoadedPolicy]) -> None:
    """Raise ConfigurationError with every budget that a model of its policy could never hold."""
    from gateway.bootstrap import unfitting
    from gateway.evaluation.stages import workbench
    from gateway.registry import load_registry

    registry = load_registry()
    async with workbench(registry) as bench:
        problems: list[str] = []
        for policy in loaded.values():
            spec = policy.policy.demonstrations
            stages: dict[Any, Any] = {}
            if spec is not None:
                made = await bench.stage("injector", spec.stage, spec.config, f"{policy.path}: demonstrations")
                if made is not None:
                    stages["injector", spec.stage] = made
            problems += await unfitting(policy, stages, registry)
        problems = [*bench.problems, *problems]
    if problems:
        raise ConfigurationError(*dict.fromkeys(problems))


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
    asyncio.run(_fitting(loaded))
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


@policy.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="POLICY.yaml")
@click.option("--benign", required=True, type=click.Path(path_type=Path), help="Benign questions of the department.")
@click.option("--harmful", type=click.Path(path_type=Path), help="Harmful questions, to see what is still refused.")
@click.option("--at-most", required=True, type=Part(), help="Share of benign questions that may be refused.")
@click.option("--higher-tier", type=Part(), help="Share that may be refused or get a higher tier: sets tier 0.")
@click.option("--confidence", type=Part(), help="Promise it so surely, as 0.95, and not on average.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, help="Questions at once [1].")
@click.option("--write", is_flag=True, help="Write the thresholds and the next revision into the file.")
@as_json
def calibrate(
    file: Path,
    benign: Path,
    harmful: Path | None,
    at_most: float,
    higher_tier: float | None,
    confidence: float | None,
    jobs: int,
    write: bool,
    as_json: bool,
) -> None:
    """Set the tiers so that at most a share of the department's own benign questions is refused."""
    from gateway.cli.calibrate import calibrate as run
    from gateway.evaluation.calibrate import Promise

    if higher_tier is not None and higher_tier < at_most:
        raise click.BadParameter("is below --at-most; who is refused counts in it too", param_hint="--higher-tier")
    run(
        file,
        benign,
        harmful,
        refusal=Promise(at_most=at_most, confidence=confidence),
        caution=None if higher_tier is None else Promise(at_most=higher_tier, confidence=confidence),
        jobs=jobs,
        write=write,
        as_json=as_json,
    )
