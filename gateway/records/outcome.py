"""What is kept of a decision: the outcome of a request, and the record that is made of it. Pure.

`Outcome` holds everything that happened, content included, and lives as long as the request. The record keeps evidence,
decisions and keyed digests, never content; it is what the log stores, as exact canonical bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from gateway.policy.decision import Admission, Admit, Refuse, Release, Verdict, Withhold
from gateway.policy.evidence import AuditEvidence, Inspected, ScreenEvidence, StageFailed
from gateway.policy.model import LoadedPolicy
from gateway.stages import Kind
from gateway.values import Budget, Completion, Demonstration, Request


class Caller(Struct, frozen=True, kw_only=True):
    """Who calls: the id of the API key (never the key), its department and roles.

    `person` and `application` are who uses it, where that is known; `via` is how they signed in (``key``, ``oidc``,
    ``session``, ``os``). `scopes` narrow what the roles allow, empty where they do not. `grant` is the break-glass
    record that lent a role. `per_minute` and `per_day` bound its requests in place of the gateway's own limits.
    """

    key: str
    department: str
    roles: tuple[str, ...]
    person: str | None = None
    application: str | None = None
    via: str = "key"
    scopes: tuple[str, ...] = ()
    grant: str | None = None
    per_minute: int | None = None
    per_day: int | None = None


class Context(Struct, frozen=True, kw_only=True):
    """What the caller said of the request, as it was said; `ContextV1` is what is kept of it.

    `patient`, `study` and `user` are the caller's own numbers for them.
    """

    purpose: str | None = None
    on_behalf_of: str | None = None
    patient: str | None = None
    study: str | None = None
    task: str | None = None
    user: str | None = None
    claimed_person: str | None = None
    claimed_application: str | None = None


NOTHING_SAID = Context()
"""The context of a caller who said nothing."""


class BatchLine(Struct, frozen=True, kw_only=True):
    """The line of a batch that a request is: the batch's id, the line's number (from 1), tries, and patience."""

    batch: str
    line: int
    tries: int
    patience: float


class Where(Struct, frozen=True, kw_only=True):
    """Where a gateway runs: ids of the data folder and of this start, and a keyed digest of the host's name."""

    instance: str
    host: str
    process: str


ClockState = Literal["synchronised", "unsynchronised", "unknown", "jumped"]
"""What is known of the wall clock; ``jumped``: it has just moved against the monotonic one."""


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


class Streamed(Struct, frozen=True, kw_only=True):
    """How the answer to a request was streamed under a policy that says ``stream: windowed``.

    `mode` is what was done. Where it was ``held`` all the same, `why` says what needed the whole answer: ``auditor`` or
    ``backend`` with the stage's name after a colon, ``logprobs``, or ``retry``; None where it was short enough to be
    whole before anything could leave. `hold_back` is how many characters were held back at the end of the text;
    `opened` is the id of the record that was made before the first of it left, and `first_ms` when that was. `ended`
    says how it ended: ``whole``, ``finding`` (late), ``check-failed``, ``model-failed`` or ``caller-gone``.
    """

    mode: Literal["held", "windowed"]
    why: str | None = None
    hold_back: int | None = None
    opened: str | None = None
    first_ms: float | None = None
    ended: Literal["whole", "finding", "check-failed", "model-failed", "caller-gone"] = "whole"


class Outcome(Struct, frozen=True, kw_only=True):
    """All that happened to one request. `answer` is what may leave, redacted.

    It is None unless released; of a windowed stream that ended early it is what had left. `streamed` is None unless the
    policy streams by windows and a stream was asked for.

    `started` is UTC, `ms` the time from the parsed request to this outcome. Where only the pre-screen was asked for,
    `final` is the admission. `defused` counts the control tokens that were broken in what the model was given.
    `configs` are the digests of the stages' configurations. A decision whose `mode` is ``shadow`` had no effect.
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
    context: Context = NOTHING_SAID
    where: Where | None = None
    clock: ClockState | None = None
    mode: Literal["enforced", "shadow"] = "enforced"
    configs: Mapping[tuple[Kind, str], str] = {}
    batch: BatchLine | None = None
    streamed: Streamed | None = None

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
