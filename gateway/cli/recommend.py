"""`gateway evaluate recommend`: name the cheapest setting that holds two limits, and put it into a policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.lists import Part
from gateway.cli.output import as_json, show
from gateway.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from gateway.evaluation.arms import Arm
    from gateway.evaluation.defence_report import DefenceReport
    from gateway.evaluation.recommend import Recommended
    from gateway.policy.model import LoadedPolicy


@click.command()
@click.argument("report", type=click.Path(path_type=Path), metavar="defence.json")
@click.option(
    "--max-attack-success", required=True, type=Part(), help="Share of harmful questions that may be answered."
)
@click.option("--max-over-defense", required=True, type=Part(), help="Share of benign questions that may be refused.")
@click.option("--policy-file", type=click.Path(path_type=Path), help="The policy to change: shows how, writes nothing.")
@click.option("--tier", type=click.IntRange(min=0), default=0, help="The tier whose budget changes [0].")
@click.option("--write", is_flag=True, help="Write the budget and the next revision into the policy.")
@click.option("--force", is_flag=True, help="Write although cases of the policy would no longer hold.")
@as_json
def recommend(
    report: Path,
    max_attack_success: float,
    max_over_defense: float,
    policy_file: Path | None,
    tier: int,
    write: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Name the cheapest setting whose upper 95 % bounds hold both limits; without one, the nearest (exit code 1)."""
    from gateway.evaluation.defence_report import read_report
    from gateway.evaluation.recommend import recommend as choose

    if write and policy_file is None:
        raise click.UsageError("--write needs --policy-file: name the policy that is to change")
    read = read_report(report)
    found = choose(read, max_attack_success, max_over_defense)
    change = None
    if policy_file is not None and found.fits:
        change = _change(policy_file, tier, found.effect.arm, write=write, force=force)
    document = _document(found, max_attack_success, max_over_defense, change)
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _tell(read, found, max_attack_success, max_over_defense, change)
    if not found.fits or (change is not None and write and not change["written"]):
        raise SystemExit(1)


def _change(file: Path, tier: int, arm: Arm, *, write: bool, force: bool) -> dict[str, Any]:
    """Make the policy that the setting asks for, and write it where that is wished and no case is broken."""
    from gateway.evaluation.rewrite import (
        cases_broken,
        cases_of,
        difference,
        load_text,
        read_policy,
        with_budget,
        with_cases,
        write_policy,
    )
    from gateway.registry import load_registry

    offers = load_registry().configs()
    data = read_policy(file)
    before = load_text(file, data, offers)
    _same_kind(file, before, arm)
    made, after = with_budget(file, data, tier, arm.budget.demonstrations, arm.budget.mix, offers)
    cases = with_cases(file, before, after, tier)
    broken = cases_broken(file, before, after, None if cases is None else cases[1])
    written = write and (force or not broken)
    told = [difference(file, data, made, "recommended")]
    if cases is not None:
        told.append(difference(cases_of(file), *cases, "recommended"))
    if written:
        write_policy(file, made, data)
        if cases is not None:
            try:
                write_policy(cases_of(file), cases[1], cases[0])
            except Unavailable:  # both or neither
                write_policy(file, data, made)
                raise
    return {
        "policy": str(file),
        "tier": tier,
        "revision": after.policy.revision,
        "cases_broken": broken,
        "diff": "\n".join(told),
        "written": written,
    }


def _same_kind(file: Path, loaded: LoadedPolicy, arm: Arm) -> None:
    """Raise ConfigurationError where the policy shows demonstrations in another way than was measured."""
    spec = loaded.policy.demonstrations
    if spec is None or not arm.budget.demonstrations:
        return
    problems = []
    if arm.strategy is not None and spec.config.get("strategy") != arm.strategy:
        problems.append(f"set `demonstrations.config.strategy: {arm.strategy}` first: that is what was measured")
    form = getattr(spec, "form", "turns")
    if form != arm.form:
        problems.append(f"set `demonstrations.form: {arm.form}` first: that is what was measured")
    if problems:
        raise ConfigurationError(*(f"{file}: {problem}" for problem in problems))


def _document(
    found: Recommended, max_attack_success: float, max_over_defense: float, change: dict[str, Any] | None
) -> dict[str, Any]:
    effect = found.effect
    return {
        "fits": found.fits,
        "setting": effect.arm.name,
        "demonstrations": effect.arm.budget.demonstrations,
        "mix": effect.arm.budget.mix,
        "strategy": effect.arm.strategy,
        "form": effect.arm.form,
        "prompt_tokens": None if effect.cost is None else effect.cost.prompt_tokens,
        "attack_success_at_most": effect.rates.attack_success.high,
        "over_defense_at_most": effect.rates.over_defense.high,
        "max_attack_success": max_attack_success,
        "max_over_defense": max_over_defense,
        "change": change,
    }


def _tell(
    report: DefenceReport,
    found: Recommended,
    max_attack_success: float,
    max_over_defense: float,
    change: dict[str, Any] | None,
) -> None:
    from gateway.evaluation.defence_telling import problems
    from gateway.evaluation.recommend import questions_needed
    from gateway.evaluation.telling import told

    effect = found.effect
    row = {
        "setting": effect.arm.name,
        "attack_success": told(effect.rates.attack_success),
        "over_defense": told(effect.rates.over_defense),
        "prompt_tokens": "–" if effect.cost is None else f"{effect.cost.prompt_tokens:.0f}",
    }
    limits = f"attack success at most {_plain(max_attack_success)}, over-defense at most {_plain(max_over_defense)}"
    title = f"The cheapest setting that holds {limits}" if found.fits else f"None holds {limits}; the nearest"
    show([row], tuple(row), json_wanted=False, title=title)
    click.echo(f"Measured on {report.model.name}. What counts is the upper end of the 95 % interval.")
    for word, limit, of in (
        ("harmful", max_attack_success, effect.rates.attack_success.of),
        ("benign", max_over_defense, effect.rates.over_defense.of),
    ):
        needed = questions_needed(limit)
        if not found.fits and of < needed:
            click.echo(f"{of} {word} questions can not show {_plain(limit)}: that needs {needed} without an error")
    worst = [(name, rates.attack_success) for name, rates in effect.by_attack.items() if rates.attack_success.of]
    if len(worst) > 1:
        name, share = max(worst, key=lambda item: item[1].value or 0.0)
        click.echo(f"Its worst attack is {name}: attack success {told(share)}.")
    for line in problems(report):
        click.echo(f"mind: {line}")
    if change is not None:
        _tell_change(change)


def _tell_change(change: dict[str, Any]) -> None:
    click.echo(f"\n{change['diff']}\n")
    if change["cases_broken"]:
        click.echo(
            f"cases that would no longer hold (look at them, then mend them): {'; '.join(change['cases_broken'])}"
        )
    if change["written"]:
        click.echo(f"wrote {change['policy']}; run `gateway policy test`, then start the gateway anew")
    elif change["cases_broken"]:
        click.echo("nothing was written; mend the cases, or write all the same with --write --force")
    else:
        click.echo("nothing was written; add --write to change the file")


def _plain(part: float) -> str:
    return f"{100 * part:g} %"
