"""What is kept of a decision: the outcome of a request, and the record that is made of it. Pure.

`Outcome` holds everything that happened, content included, and lives as long as the request. The record keeps evidence,
decisions and keyed digests, never content; it is what the log stores, as exact canonical bytes.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

from gateway.policy.decision import Admission, Admit, Refuse, Release, Verdict, Withhold
from gateway.policy.evidence import AuditEvidence, Inspected, ScreenEvidence, StageFailed
from gateway.policy.model import LoadedPolicy
from gateway.values import Budget, Completion, Demonstration, Request


class Caller(Struct, frozen=True, kw_only=True):
    """Who calls: the id of the API key (never the key), its department and roles.

    `person` and `application` are who uses it, where that is known; `via` is how they signed in (``key``, ``oidc``,
    ``session``, ``os``). `scopes` narrow what the roles allow, empty where they do not. `grant` is the break-glass
    record that lent a role.
    """

    key: str
    department: str
    roles: tuple[str, ...]
    person: str | None = None
    application: str | None = None
    via: str = "key"
    scopes: tuple[str, ...] = ()
    grant: str | None = None


class Injected(Struct, frozen=True, kw_only=True):
    """Demonstrations as an injector gave them, stamped by the pipeline."""

    stage: str
    version: str
    ms: float
    demonstrations: tuple[Demonstration, ...]


class Completed(Struct, frozen=True, kw_only=True):
    """An answer as a backend gave it, stamped by the pipeline."""

    stage: str
    version: str
    ms: float
    completion: Completion


class Attempt(Struct, frozen=True, kw_only=True):
    """One asking of the model: what was bought, what came back, what the auditors said, what was decided.

    `injected` is None where the policy has no injector or the budget is zero; `completed` is None where the injector
    failed and the policy did not excuse it. `trimmed` is the budget as it was cut to fit the model's context, None
    where it was not.
    """

    budget: Budget
    injected: Injected | StageFailed | None
    completed: Completed | StageFailed | None
    audits: tuple[AuditEvidence, ...]
    verdict: Verdict
    trimmed: Budget | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """All that happened to one request. `answer` is what may leave: redacted, None unless released.

    `started` is UTC, `ms` the time from the parsed request to this outcome. Where only the pre-screen was asked for,
    `final` is the admission. `defused` counts the control tokens that were broken in what the model was given.
    """

    request: Request
    caller: Caller
    policy: LoadedPolicy
    endpoint: str
    started: dt.datetime
    ms: float
    screening: tuple[ScreenEvidence, ...]
    coverage: tuple[Inspected, ...]
    admission: Admission
    attempts: tuple[Attempt, ...]
    final: Refuse | Withhold | Release | Admit
    answer: Completion | None = None
    defused: int = 0

    @property
    def word(self) -> Literal["released", "refused", "withheld", "screened"]:
        """Give the outcome in one word, as the response header says it."""
        match self.final:
            case Release():
                return "released"
            case Refuse():
                return "refused"
            case Withhold():
                return "withheld"
            case Admit():
                return "screened"

    @property
    def admitted(self) -> Admit | None:
        """Give the admission where there was one."""
        return self.admission if isinstance(self.admission, Admit) else None
