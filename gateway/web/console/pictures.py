"""The demonstrations that a model was shown, as their injector can show them to a person now.

The record holds their ids and a digest over their words and pictures. The digest tells whether what is shown here is
what the model was shown, and with how many pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.errors import describe
from gateway.records.content import demonstrations_digest
from gateway.records.shapes import AttemptV1, InjectedV1
from gateway.stages import IllustratingInjector
from gateway.values import Demonstration

if TYPE_CHECKING:
    import logging

    from gateway.bootstrap import Runtime


class Shown(Struct, frozen=True, kw_only=True):
    """The demonstrations of one asking of the model.

    `known` are those that can still be shown. `same` tells that they are what the model was shown, byte for byte, and
    then `pictured` holds the ids of those whose picture it was shown.
    """

    stage: str
    ids: tuple[str, ...]
    known: tuple[Demonstration, ...]
    same: bool
    pictured: frozenset[str]


async def shown(attempt: AttemptV1, runtime: Runtime, log: logging.Logger) -> Shown | None:
    """Give the demonstrations of `attempt`; None where there were none."""
    word = attempt.injected
    if not isinstance(word, InjectedV1) or not word.demonstrations:
        return None
    known: tuple[Demonstration, ...] = ()
    for injector in injectors(runtime, word.stage):
        try:
            found = tuple(await injector.illustrate(word.demonstrations))
        except Exception as exc:  # noqa: BLE001 - a plugin's fault must not hide the rest of the page
            log.warning("the injector can not show its demonstrations: %s", describe(exc))
            continue
        count = _pictures(found, word.digest)
        if count is not None:
            pictured = [demo.id for demo in found if demo.image is not None][:count]
            return Shown(
                stage=word.stage, ids=word.demonstrations, known=found, same=True, pictured=frozenset(pictured)
            )
        known = known or found
    return Shown(stage=word.stage, ids=word.demonstrations, known=known, same=False, pictured=frozenset())


def injectors(runtime: Runtime, stage: str) -> list[IllustratingInjector]:
    """List the injectors of a name that can show what they chose."""
    built: list[Any] = [one.stage for one in runtime.stages if one.name == stage]
    return [one for one in built if isinstance(one, IllustratingInjector)]


def _pictures(found: tuple[Demonstration, ...], digest: str) -> int | None:
    """Tell with how many of their pictures, from the first on, the demonstrations have `digest`; None: they never do.

    A budget takes pictures away from the end on, so this finds every way in which an injector of ours shows them.
    """
    total = len([demo for demo in found if demo.image is not None])
    left: int
    for left in [total, *range(total)]:
        kept: list[Demonstration] = []
        seen = 0
        for demo in found:
            seen += demo.image is not None
            kept.append(demo if seen <= left else replace(demo, image=None))
        if demonstrations_digest(tuple(kept)) == digest:
            return left
    return None
