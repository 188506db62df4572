"""Run cases: tables of evidence and the decision that a policy must come to, in `cases/<department>.yaml`.

No stage and no model is run: a case writes the evidence down, and the pure decision is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from gateway.errors import ConfigurationError
from gateway.policy.case import FOUND_PART, Because, Case, Expected, Failed, Word, load_cases, works
from gateway.policy.decide import admit, release, wanted
from gateway.policy.decision import Admission, Admit, Reason, Refuse, Release, Retry, Verdict, Withhold
from gateway.policy.evidence import Audited, AuditEvidence, Inspected, Screened, ScreenEvidence, Skipped, StageFailed
from gateway.policy.model import LoadedPolicy, Policy
from gateway.policy.models import for_model
from gateway.policy.walk import closest
from gateway.values import Choice, Completion, Finding, Score, Screening, Text

__all__ = ["CaseResult", "check_cases", "load_cases", "run_cases"]

_STAMP: dict[str, Any] = {"version": "case", "ms": 0.0}


class CaseResult(Struct, frozen=True, kw_only=True):
    """What came of a case: `problem` is None where the decision was the expected one."""

    department: str
    case: str
    problem: str | None = None


def check_cases(folder: Path, policies: Mapping[str, LoadedPolicy]) -> tuple[CaseResult, ...]:
    """Run the cases of every policy in `folder`; a policy that has none fails.

    Raises ConfigurationError with every mistake in a file of cases, and for one that belongs to no policy.
    """
    results: list[CaseResult] = []
    problems: list[str] = []
    cases = folder / "cases"
    for department, loaded in policies.items():
        file = cases / f"{department}.yaml"
        try:
            results += run_cases(loaded.policy, load_cases(file, loaded.policy) if file.is_file() else ())
        except ConfigurationError as exc:
            problems += exc.problems
    for file in sorted(cases.glob("*.y*ml")):
        if not file.name.startswith(".") and (file.suffix != ".yaml" or file.stem not in policies):
            problems.append(f"{file}: belongs to no policy; {closest(file.stem, policies)}")
    if problems:
        raise ConfigurationError(*problems)
    return tuple(results)


def run_cases(policy: Policy, cases: Iterable[Case]) -> tuple[CaseResult, ...]:
    """Decide each case and compare. A policy without cases fails: nobody has said what it must come to."""
    name = policy.department
    results = tuple(CaseResult(department=name, case=case.name, problem=_run(policy, case)) for case in cases)
    if not results:
        return (CaseResult(department=name, case="(none)", problem=f"there are no cases; write `cases/{name}.yaml`"),)
    return results


def _run(policy: Policy, case: Case) -> str | None:
    policy = for_model(policy, case.model)
    evidence, coverage = _screening(policy, case)
    decision: Admission | Verdict = admit(policy, evidence, coverage)
    if case.expect.admit is None and case.expect.refuse is None and isinstance(decision, Admit):
        completion, audits = _answer(policy, case)
        decision = release(policy, decision, completion, audits, case.attempt)
    wrong = _compare(case.expect, decision)
    return f"{wrong}; the decision was: {_told(decision)}" if wrong else None


def _screening(policy: Policy, case: Case) -> tuple[tuple[ScreenEvidence, ...], tuple[Inspected, ...]]:
    """Make the evidence and the coverage that a case writes down, as the pipeline would."""
    kinds: dict[str, Literal["text", "image"]] = dict(case.parts)
    evidence: list[ScreenEvidence] = []
    # Second opinions last: whether one is asked hangs on the others' words.
    for spec in sorted(policy.prescreen, key=lambda spec: spec.between is not None):
        if spec.stage not in case.screen and not wanted(spec, policy, evidence):
            evidence.append(Skipped(stage=spec.stage, version="case"))
            continue
        word = case.screen.get(spec.stage, 0.0)
        finds = case.found is not None and spec.stage not in case.found and works(word)
        evidence += _word(spec.stage, word, "request", tuple(case.parts), case.uninspected, finds=finds)
    if case.found is not None:
        kinds[FOUND_PART] = "text"
        for stage, word in case.found.items():
            evidence += _word(stage, word, "found", (FOUND_PART,), case.uninspected, finds=False)
    looked = [(w.stage, part) for w in evidence if isinstance(w, Screened) for part in w.screening.inspected]
    coverage = tuple(
        Inspected(part=part, kind=kind, by=tuple(stage for stage, seen in looked if seen == part))
        for part, kind in kinds.items()
    )
    return tuple(evidence), coverage


def _word(
    stage: str,
    word: float | str | Word,
    round_: Literal["request", "found"],
    parts: tuple[str, ...],
    unseen: tuple[str, ...],
    *,
    finds: bool,
) -> tuple[ScreenEvidence, ...]:
    if isinstance(word, str):
        return ()
    said = word if isinstance(word, Word) else Word(risk=word)
    if said.failed is not None:
        return (StageFailed(stage=stage, kind="prescreener", cause=said.failed, round=round_, **_STAMP),)
    looked = parts if said.inspected is None else said.inspected
    screening = Screening(
        risk=said.risk,
        inspected=tuple(part for part in looked if part not in unseen),
        scores=() if said.label is None else (Score(label=said.label, value=said.risk),),
        found=(Text(id=FOUND_PART, text="found"),) if finds else (),
        findings=tuple(Finding(kind=kind, score=score, part=parts[0]) for kind, score in said.findings.items()),
        clinical=said.clinical if round_ == "request" else None,
    )
    return (Screened(stage=stage, screening=screening, round=round_, **_STAMP),)


def _answer(policy: Policy, case: Case) -> tuple[Completion, tuple[AuditEvidence, ...]]:
    """Make the answer and the auditors' words that a case writes down: one word for each choice."""
    choices = tuple(
        Choice(index=index, text=Text(id=f"choices[{index}].content", text=case.answer))
        for index in range(case.choices)
    )
    audits: list[AuditEvidence] = []
    for spec in policy.audit:
        word = (case.audit or {}).get(spec.stage, ())
        for index in range(case.choices):
            if isinstance(word, Failed):
                cause = word.failed
                failed = StageFailed(
                    stage=spec.stage, kind="auditor", cause=cause, choice=index, attempt=case.attempt, **_STAMP
                )
                audits.append(failed)
            elif not isinstance(word, str):
                findings = tuple(
                    Finding(
                        kind=found.kind or spec.stage,
                        score=found.score,
                        part=f"choices[{index}].content",
                        start=found.span[0] if found.span else None,
                        end=found.span[1] if found.span else None,
                        replacement=found.replacement,
                    )
                    for found in word
                    if found.choice == index
                )
                said = Audited(stage=spec.stage, choice=index, findings=findings, attempt=case.attempt, **_STAMP)
                audits.append(said)
    return Completion(model="case", choices=choices), tuple(audits)


def _compare(expect: Expected, decision: Admission | Verdict) -> str | None:
    """Tell what differs from the expected decision; None where nothing does."""
    real: dict[str, object]
    match decision:
        case Admit() if expect.admit is not None:
            real = {"demonstrations": decision.budget.demonstrations, "mix": decision.budget.mix}
            real |= {"tier": decision.tier, "excused": decision.excused, "waived": decision.waived}
            return _differs(expect.admit, real)
        case Release() if expect.release is not None:
            real = {"redacted": len(decision.redactions), "noted": decision.noted, "excused": decision.excused}
            return _differs(expect.release, real)
        case Retry() if expect.retry is not None:
            return _differs(
                expect.retry, {"demonstrations": decision.budget.demonstrations, "mix": decision.budget.mix}
            )
        case Refuse() if expect.refuse is not None:
            return _unlike(expect.refuse, decision.reasons)
        case Withhold() if expect.withhold is not None:
            return _unlike(expect.withhold, decision.reasons)
    wanted = next(name for name in expect.__struct_fields__ if getattr(expect, name) is not None)
    return f"expected `{wanted}`"


def _differs(wanted: Struct, real: Mapping[str, object]) -> str | None:
    for name in wanted.__struct_fields__:
        value = getattr(wanted, name)
        if value is not None and value != real[name]:
            return f"expected {name} {_plain(value)}, got {_plain(real[name])}"
    return None


def _unlike(wanted: tuple[str | Because, ...], reasons: tuple[Reason, ...]) -> str | None:
    """Compare reasons: each that is wanted must be there, and each that is there must be wanted."""

    def fits(want: str | Because, reason: Reason) -> bool:
        if isinstance(want, str):
            return want == reason.code
        named = {name: getattr(want, name) for name in want.__struct_fields__}
        return all(value is None or value == getattr(reason, name) for name, value in named.items())

    for want in wanted:
        if not any(fits(want, reason) for reason in reasons):
            return f"expected the reason {want if isinstance(want, str) else _reason(want)}"
    for reason in reasons:
        if not any(fits(want, reason) for want in wanted):
            return f"there is a reason more: {_reason(reason)}"
    return None


def _plain(value: object) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


def _reason(reason: Reason | Because) -> str:
    return " ".join(
        str(v) for v in (reason.code, reason.stage, reason.label, reason.part, reason.cause) if v is not None
    )


def _told(decision: Admission | Verdict) -> str:
    """Tell a decision in one line."""
    match decision:
        case Admit():
            excused = f", excused {_plain(decision.excused)}" if decision.excused else ""
            return f"admit by {decision.rule} at risk {decision.risk:g}{excused}"
        case Release():
            return f"release with {len(decision.redactions)} redactions, noted {_plain(decision.noted)}"
        case Retry():
            return f"retry with {decision.budget.demonstrations} demonstrations"
        case Refuse() | Withhold():
            word = "refuse" if isinstance(decision, Refuse) else "withhold"
            return f"{word} by {decision.rule}: " + ", ".join(_reason(reason) for reason in decision.reasons)
