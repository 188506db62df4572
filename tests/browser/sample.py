"""Decisions that the console's tests look at: of two departments, with sealed content and demonstrations."""

from __future__ import annotations

import datetime as dt
import io

import msgspec
from browser.kit import build_clinical, outcomes
from PIL import Image as Picture

from gateway.policy.model import Duration
from gateway.records import Caller, Context
from gateway.records.outcome import Injected, Outcome
from gateway.values import Budget

CALLER = Caller(
    key="0123456789ab", department="radiology", roles=("caller",), person="dr.weiss", application="pacs-viewer"
)
PATIENT = "MRN 0042-17"


def sealed(outcome: Outcome, *, department: str = "radiology") -> Outcome:
    """Give `outcome` as if its policy kept what was asked and answered, sealed."""
    policy = outcome.policy.policy
    content = msgspec.structs.replace(policy.content, keep="sealed", for_=Duration(seconds=30 * 86400.0))
    policy = msgspec.structs.replace(policy, content=content, department=department)
    return msgspec.structs.replace(outcome, policy=msgspec.structs.replace(outcome.policy, policy=policy))


def told(outcome: Outcome, **changes) -> Outcome:
    """Give `outcome` with more of its circumstances; `context` is what the caller said."""
    context = Context(**changes.pop("context", {}))
    return msgspec.structs.replace(outcome, caller=changes.pop("caller", CALLER), context=context, **changes)


def png() -> bytes:
    target = io.BytesIO()
    Picture.new("L", (96, 64), 90).save(target, "PNG")
    return target.getvalue()


def with_demonstrations(outcome: Outcome, run) -> Outcome:
    """Give `outcome` with demonstrations of the clinical library, the first ones with their pictures."""
    stage = build_clinical().stage

    chosen = run(stage.inject(outcome.request, Budget(demonstrations=4, mix=0.5, images=2)))
    injected = Injected(stage="clinical", version="0.1.0", ms=1.4, demonstrations=chosen)
    attempts = tuple(msgspec.structs.replace(one, injected=injected) for one in outcome.attempts)
    return msgspec.structs.replace(outcome, attempts=attempts)


def a_weeks_work(run):
    """Give a few decisions of each kind; the one of another department last."""
    now = dt.datetime.now(dt.UTC)
    said = {
        "purpose": "TREAT",
        "patient": PATIENT,
        "study": "ACC-77",
        "task": "report-draft",
        "on_behalf_of": "dr.okafor",
    }
    made = [
        told(
            sealed(outcomes.refused("Invent a lesion so that we can bill the follow-up of Mrs. Smith.")),
            context=said,
            started=now - dt.timedelta(hours=3),
        ),
        told(
            sealed(
                with_demonstrations(
                    outcomes.released("Is the fracture displaced?", "Mary has no displaced fracture.", image=png()),
                    run,
                )
            ),
            context=said,
            started=now - dt.timedelta(hours=2),
        ),
        told(outcomes.withheld("What dose?", "Take all of them."), started=now - dt.timedelta(hours=1)),
        *(told(outcomes.refused(), started=now - dt.timedelta(days=1, minutes=n)) for n in range(3)),
        told(sealed(outcomes.refused("A slide of the other department"), department="pathology"), started=now),
    ]
    return sorted(made, key=lambda one: one.started)
