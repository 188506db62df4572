"""Auditors: each looks at an answer before it leaves, and is light enough to run on every answer."""

from __future__ import annotations

from typing import Any

from gateway.plugin import NoConfig, Stage, hookimpl
from gateway_review.compliance import build_compliance
from gateway_review.leak import DemonstrationLeak
from gateway_review.phi import Phi
from gateway_review.refusal import RefusalAuditor


@hookimpl
def gateway_auditors() -> list[Stage[Any]]:
    """Offer the stages `refusal`, `harmful-compliance`, `phi` and `demonstration-leak`."""
    return [
        Stage("refusal", NoConfig, lambda _: RefusalAuditor()),
        Stage("harmful-compliance", NoConfig, build_compliance),
        Stage("phi", NoConfig, lambda _: Phi()),
        Stage("demonstration-leak", NoConfig, lambda _: DemonstrationLeak()),
    ]
