"""A policy as it holds for one of its models. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.policy.model import BackendSpec, BudgetSpec, CapSpec, Policy


def spec_of(policy: Policy, name: str | None) -> BackendSpec:
    """Give the model that is asked where a request names `name`: the default unless it stands under `models`."""
    return policy.backend if name is None else policy.models.get(name, policy.backend)


def for_model(policy: Policy, name: str | None = None) -> Policy:
    """Give `policy` as it holds for the model `name`, for the default where that is not one of `models`.

    Its `backend` is that model and `models` is empty; budgets are no larger than the model's cap, and demonstrations
    have the model's form. To do it again with what comes of it changes nothing.
    """
    spec = spec_of(policy, name)
    shown, again = policy.demonstrations, policy.over_defense
    if shown is not None and spec.form is not None:
        shown = replace(shown, form=spec.form)
    if again is not None:
        again = replace(again, retry=capped(again.retry, spec.cap))
    return replace(
        policy,
        backend=spec,
        models={},
        demonstrations=shown,
        tiers=tuple(replace(tier, budget=capped(tier.budget, spec.cap)) for tier in policy.tiers),
        over_defense=again,
    )


def capped(budget: BudgetSpec, cap: CapSpec) -> BudgetSpec:
    """Give what of `budget` a model may be shown: the smaller of each number. The mix stays."""
    most = budget.demonstrations if cap.demonstrations is None else min(budget.demonstrations, cap.demonstrations)
    tokens, images = _least(budget.tokens, cap.tokens), _least(budget.images, cap.images)
    return replace(budget, demonstrations=most, tokens=tokens, images=images)


def _least(first: int | None, second: int | None) -> int | None:
    """Give the smaller number; None where there is none."""
    return min((number for number in (first, second) if number is not None), default=None)
