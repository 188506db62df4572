"""Patience: the same policy with more time, for requests that nobody waits for."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.policy.model import Duration, Policy


def patient_policy(policy: Policy, factor: float) -> Policy:
    """Give `policy` with every deadline multiplied by `factor`: a late word refuses, and a full machine is late."""

    def longer(deadline: Duration) -> Duration:
        return Duration(seconds=deadline.seconds * factor)

    shown = policy.demonstrations
    return replace(
        policy,
        deadline=longer(policy.deadline),
        backend=replace(policy.backend, deadline=longer(policy.backend.deadline)),
        prescreen=tuple(replace(spec, deadline=longer(spec.deadline)) for spec in policy.prescreen),
        demonstrations=None if shown is None else replace(shown, deadline=longer(shown.deadline)),
        audit=tuple(replace(spec, deadline=longer(spec.deadline)) for spec in policy.audit),
    )
