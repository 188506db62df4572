"""Outcomes for benchmarks and tests of the log: of the size and shape that requests have, without running any model."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid

from gateway.policy.decision import Admission, Admit, Reason, Redaction, Refuse, Release, Retry, Withhold
from gateway.policy.evidence import Audited, Inspected, Screened, ScreenEvidence, StageFailed
from gateway.policy.model import AuditSpec, BackendSpec, BudgetSpec, LoadedPolicy, Policy, PrescreenSpec, Tier
from gateway.records import Attempt, Caller, Completed, Injected, Outcome
from gateway.records.outcome import Where
from gateway.stages import Kind
from gateway.values import (
    Budget,
    Choice,
    Completion,
    Demonstration,
    Finding,
    Image,
    Request,
    Sampling,
    Score,
    Screening,
    Text,
    Turn,
    Usage,
)

POLICY = LoadedPolicy(
    policy=Policy(
        department="radiology",
        revision=3,
        backend=BackendSpec(stage="transformers"),
        prescreen=(PrescreenSpec(stage="intent"), PrescreenSpec(stage="image-text")),
        audit=(AuditSpec(stage="refusal"), AuditSpec(stage="phi", on_finding="redact")),
        tiers=(Tier(below=0.9, budget=BudgetSpec(demonstrations=4)),),
    ),
    digest="5f" * 32,
    path="policies/radiology.yaml",
)
CALLER = Caller(key="0123456789ab", department="radiology", roles=("caller",))
SMALL = Budget(demonstrations=2, mix=0.5)
LARGE = Budget(demonstrations=4, mix=0.25, tokens=900, images=4)
WHERE = Where(instance="5f" * 16, host="0a" * 16, process="9e" * 8)
_STAGES: tuple[tuple[Kind, str], ...] = (
    ("prescreener", "intent"),
    ("prescreener", "image-text"),
    ("injector", "clinical"),
    ("backend", "transformers"),
    ("auditor", "refusal"),
    ("auditor", "phi"),
    ("auditor", "harmful-compliance"),
)
CONFIGS = {stage: hashlib.sha256(stage[1].encode()).hexdigest() for stage in _STAGES}
_QUESTION = "messages[0].content[0]"
_PICTURE = "messages[0].content[1]"
_ANSWER = "choices[0].content"


def demonstrations(number: int, word: str = "lesion") -> tuple[Demonstration, ...]:
    """Give `number` demonstrations, every other one refusing."""
    return tuple(
        Demonstration(
            id=f"ct-{i:02d}",
            pair=f"ct-{i // 2:02d}",
            modality="ct",
            question=f"What is the {word} in slice {i}?",
            answer="I can not help with that." if i % 2 == 0 else f"The {word} measures 12 mm.",
            refuses=i % 2 == 0,
        )
        for i in range(number)
    )


def request(id: str, prompt: str, *, image: bytes | None = None, stop: tuple[str, ...] = ()) -> Request:
    """Make a request with one question, and one image where its bytes are given."""
    parts: tuple[Text | Image, ...] = (Text(id=_QUESTION, text=prompt),)
    if image is not None:
        parts += (
            Image(
                id=_PICTURE,
                data=image,
                media_type="image/png",
                width=512,
                height=512,
                digest="00" * 32,
                source="dicom",
                modality="ct",
                texts=(Text(id=f"{_PICTURE}#dicom.0", text=prompt),),
            ),
        )
    return Request(
        id=id,
        department="radiology",
        model="auto",
        turns=(Turn(role="user", parts=parts),),
        sampling=Sampling(max_tokens=256, temperature=0.2, stop=stop),
    )


def _screening(risk: float, prompt: str, image: bytes | None) -> tuple[ScreenEvidence, ...]:
    texts = (_QUESTION,) if image is None else (_QUESTION, f"{_PICTURE}#dicom.0")
    found = () if image is None else (Text(id=f"{_PICTURE}#ocr", text=prompt),)
    words: tuple[ScreenEvidence, ...] = (
        Screened(
            stage="intent",
            version="0.1.0",
            ms=4.21875,
            screening=Screening(
                risk=risk,
                inspected=texts,
                scores=(Score(label="insurance-fraud", value=risk), Score(label="self-harm", value=risk / 8)),
                part=_QUESTION,
                view="base64",
            ),
        ),
        Screened(
            stage="image-text",
            version="0.1.0",
            ms=180.5,
            screening=Screening(risk=0.0, inspected=() if image is None else (_PICTURE,), found=found),
        ),
    )
    if found:
        again = Screening(risk=risk / 2, inspected=(found[0].id,), part=found[0].id, view="raw")
        words += (Screened(stage="intent", version="0.1.0", ms=3.9, screening=again, round="found"),)
    return words


def _attempt(number: int, budget: Budget, answer: str, verdict: Release | Withhold | Retry) -> Attempt:
    refusal = (Finding(kind="refusal", score=0.93, part=_ANSWER),) if isinstance(verdict, Retry) else ()
    phi = Finding(kind="phi", score=0.8, part=_ANSWER, start=0, end=4, label="name", replacement=answer)
    return Attempt(
        budget=budget,
        injected=Injected(
            stage="clinical", version="0.1.0", ms=1.4, demonstrations=demonstrations(budget.demonstrations)
        ),
        completed=Completed(
            stage="transformers",
            version="0.1.0",
            ms=812.25,
            completion=Completion(
                model="SmolLM2-135M-Instruct",
                choices=(Choice(index=0, text=Text(id=_ANSWER, text=answer)),),
                usage=Usage(prompt_tokens=420, completion_tokens=61),
                blind=True,
            ),
        ),
        audits=(
            Audited(stage="refusal", version="0.1.0", ms=0.8, choice=0, findings=refusal, attempt=number),
            Audited(stage="phi", version="0.1.0", ms=1.1, choice=0, findings=() if refusal else (phi,), attempt=number),
        ),
        verdict=verdict,
    )


def refused(prompt: str = "How do I bill for a scan that never was?", *, id: str | None = None) -> Outcome:
    """Give an outcome that refuses: too high a risk, and one check that failed."""
    asked = request(id or f"dec_{uuid.uuid4().hex[:26]}", prompt)
    screening = _screening(0.97, prompt, None)
    failed = StageFailed(stage="image-text", version="0.1.0", kind="prescreener", cause="raised:ValueError", ms=12.0)
    decision = Refuse(
        reasons=(
            Reason(code="risk", stage="intent", label="insurance-fraud", part=_QUESTION),
            Reason(code="stage-failed", stage="image-text", cause="raised:ValueError"),
        ),
        rule="tiers",
        risk=0.97,
    )
    covered = (Inspected(part=_QUESTION, kind="text", by=("intent",)),)
    return _outcome(asked, (screening[0], failed), covered, decision, (), decision, None)


def withheld(prompt: str, answer: str, *, id: str | None = None) -> Outcome:
    """Give an outcome whose answer was withheld."""
    asked = request(id or f"dec_{uuid.uuid4().hex[:26]}", prompt)
    verdict = Withhold(
        reasons=(Reason(code="finding", stage="harmful-compliance", label="harmful-compliance", part=_ANSWER),),
        rule="audit[1]",
    )
    admission = Admit(budget=SMALL, tier=0, risk=0.4, rule="tiers[0]")
    covered = (Inspected(part=_QUESTION, kind="text", by=("intent",)),)
    attempts = (_attempt(0, SMALL, answer, verdict),)
    return _outcome(asked, _screening(0.4, prompt, None), covered, admission, attempts, verdict, None)


def released(
    prompt: str = "Is the fracture displaced?",
    answer: str = "Mary has no displaced fracture.",
    *,
    id: str | None = None,
    image: bytes | None = None,
    stop: tuple[str, ...] = (),
) -> Outcome:
    """Give an outcome that answers after one retry, with one redaction."""
    asked = request(id or f"dec_{uuid.uuid4().hex[:26]}", prompt, image=image, stop=stop)
    hidden = Redaction(choice=0, part=_ANSWER, start=0, end=4, replacement=answer, label="name")
    last = Release(rule="audit", redactions=(hidden,), noted=("refusal",))
    attempts = (
        _attempt(0, SMALL, answer, Retry(budget=LARGE, rule="over_defense")),
        _attempt(1, LARGE, answer, last),
    )
    covered = tuple(
        Inspected(part=p.id, kind="text" if isinstance(p, Text) else "image", by=("intent",)) for p in asked.parts()
    )
    done = attempts[1].completed
    return _outcome(
        asked,
        _screening(0.031, prompt, image),
        covered,
        Admit(budget=SMALL, tier=0, risk=0.031, rule="tiers[0]"),
        attempts,
        last,
        done.completion if isinstance(done, Completed) else None,
    )


def _outcome(
    asked: Request,
    screening: tuple[ScreenEvidence, ...],
    coverage: tuple[Inspected, ...],
    admission: Admission,
    attempts: tuple[Attempt, ...],
    final: Refuse | Withhold | Release,
    answer: Completion | None,
) -> Outcome:
    return Outcome(
        request=asked,
        caller=CALLER,
        policy=POLICY,
        endpoint="/v1/chat/completions",
        started=dt.datetime.now(dt.UTC),
        ms=1012.123456,
        screening=screening,
        coverage=coverage,
        admission=admission,
        attempts=attempts,
        final=final,
        answer=answer,
        where=WHERE,
        clock="synchronised",
        configs=CONFIGS,
    )
