"""Whether an answer may leave window by window, and how much its auditors have to see at once."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.pipeline.built import BuiltStages
from gateway.policy.model import Policy
from gateway.values import Sampling, Window

WIDEST = 16_384
"""The widest window, in characters: whoever needs more needs the whole answer."""


class Windows(Struct, frozen=True, kw_only=True):
    """What the auditors of a policy need, by stage. `hold_back` is the most of them, in characters."""

    by_stage: Mapping[str, Window]
    hold_back: int


def windows_of(policy: Policy, stages: BuiltStages, sampling: Sampling | None = None) -> Windows | str:
    """Give the windows by which answers leave, or what needs the whole answer: a code for the record.

    The strictest auditor counts. Log-probabilities are given for a whole answer alone.
    """
    backend = stages["backend", policy.backend.stage].stage
    if not callable(getattr(backend, "stream", None)):
        return f"backend:{policy.backend.stage}"
    found: dict[str, Window] = {}
    for spec in policy.audit:
        window = _window(stages["auditor", spec.stage].stage)
        if window is None:
            return f"auditor:{spec.stage}"
        found[spec.stage] = window
    if sampling is not None and sampling.logprobs is not None:
        return "logprobs"
    return Windows(by_stage=found, hold_back=max(window.characters for window in found.values()))


def _window(auditor: object) -> Window | None:
    """Give what an auditor declares, None where it declares nothing that can be kept to."""
    declare = getattr(auditor, "window", None)
    try:
        window = declare() if callable(declare) else None
    except Exception:  # noqa: BLE001 - a plugin's fault: the whole answer is held then
        return None
    if type(window) is not Window or type(window.characters) is not int or type(window.overlap) is not int:
        return None
    overlap = max(window.overlap, window.characters)
    return (
        Window(characters=window.characters, overlap=overlap) if 1 <= window.characters <= overlap <= WIDEST else None
    )
