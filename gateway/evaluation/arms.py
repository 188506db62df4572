"""The settings of demonstrations that are compared: every product of budget, mix, strategy and form, each once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Struct

from gateway.values import Budget, Prompt

TURNS = "turns"
"""The form in which demonstrations are shown unless another is asked for: each as a turn of a user and an answer."""


class Arm(Struct, frozen=True, kw_only=True):
    """One setting that is compared.

    `strategy` is the injector's, None where it is left as the policy has it. `form` is how the demonstrations are put
    before the question. `whole` stands for the whole gateway, pre-screen and auditors included, with the policy's own
    budgets; its `budget` says nothing.
    """

    name: str
    budget: Budget
    strategy: str | None = None
    form: str = TURNS
    whole: bool = False


WHOLE = Arm(name="whole gateway", budget=Budget(demonstrations=0, mix=0.0), whole=True)
"""The arm that is the gateway as it stands."""


def mix_name(mix: float) -> str:
    """Name a mix: ``refusing only``, ``answering only`` or ``mixed 0.5``."""
    return "refusing only" if mix >= 1 else "answering only" if mix <= 0 else f"mixed {mix:g}"


def make_arms(
    budgets: Sequence[int],
    mixes: Sequence[float],
    strategies: Sequence[str | None] = (None,),
    forms: Sequence[str] = (TURNS,),
) -> tuple[Arm, ...]:
    """Make the arms, by rising budget.

    Those that are the same are made once: without demonstrations there is one arm, and one demonstration has no mix,
    so that a mix of a half or more refuses and a lower one answers. Names tell strategy and form where several are
    compared.
    """
    made: dict[tuple[int, float, str | None, str], Arm] = {}
    for count, mix, strategy, form in product(sorted(set(budgets)), mixes, strategies, forms):
        share = 0.0 if count == 0 else float(mix >= 0.5) if count == 1 else float(mix)
        chosen, shape = (None, TURNS) if count == 0 else (strategy, form)
        name = "no demonstrations" if count == 0 else f"{count} {mix_name(share)}"
        if count and len(set(strategies)) > 1:
            name += f", {strategy}"
        if count and len(set(forms)) > 1:
            name += f", {form}"
        budget = Budget(demonstrations=count, mix=share)
        made.setdefault((count, share, chosen, shape), Arm(name=name, budget=budget, strategy=chosen, form=shape))
    return tuple(made.values())


def choices(kind: type[Struct], field: str) -> tuple[str, ...] | None:
    """Give the words that a struct's field takes: empty where it takes any text, None where there is no such field."""
    if field not in kind.__struct_fields__:
        return None
    hint: Any = get_type_hints(kind)[field]
    found = [hint, *get_args(hint)] if get_origin(hint) is not Literal else [hint]
    return tuple(word for part in found if get_origin(part) is Literal for word in get_args(part))


def forms() -> tuple[str, ...]:
    """Give the forms in which this gateway can show demonstrations."""
    return choices(Prompt, "form") or (TURNS,)
