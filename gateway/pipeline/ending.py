"""How a request ends: read off its attempts. Pure."""

from __future__ import annotations

import msgspec

from gateway.policy.decide import redact, release
from gateway.policy.decision import Admit, Reason, Release, Withhold
from gateway.policy.model import Policy
from gateway.records import Attempt, Completed
from gateway.values import Completion


def final_of(
    policy: Policy, admission: Admit, attempts: tuple[Attempt, ...]
) -> tuple[Withhold | Release, Completion | None]:
    """Read the end off the last attempt.

    Where the retry broke down, the first answer stands or falls by itself.
    """
    last = attempts[-1]
    verdict = last.verdict
    if len(attempts) == 2 and not isinstance(last.completed, Completed):
        last = attempts[0]
        assert isinstance(last.completed, Completed)  # noqa: S101 - a Retry is only made of an answer
        once = msgspec.structs.replace(policy, over_defense=None)
        verdict = release(once, admission, last.completed.completion, last.audits, 0)
    if isinstance(verdict, Release) and isinstance(last.completed, Completed):
        return verdict, redact(last.completed.completion, verdict.redactions)
    if isinstance(verdict, Withhold):
        return verdict, None
    reason = Reason(code="model-failed", stage=policy.backend.stage, cause="nothing")
    return Withhold(reasons=(reason,), rule="over_defense"), None  # a second Retry: `release` never gives one
