"""One asking of the model told in plain words."""

from __future__ import annotations

from gateway.records.phrases import because, budget, failed, finding
from gateway.records.shapes import (
    AttemptV1,
    AuditedV1,
    CompletedV1,
    FailedV1,
    InjectedV1,
    ReleaseV1,
    RetryV1,
    WithholdV1,
)
from gateway.records.words import count, listed, ms, share, short


def attempt_lines(attempt: AttemptV1) -> list[str]:
    """Tell what was bought, shown, answered and audited, a line each."""
    cut = "" if attempt.trimmed is None else f" {_trimmed(attempt)}"
    bought = f"Bought: {budget(attempt.budget)}.{cut} {_injected(attempt.injected)}"
    lines = [bought, _completed(attempt.completed)]
    lines += [_audited(word) for word in attempt.audits]
    lines.append(_verdict(attempt.verdict))
    return [line for line in lines if line]


def in_force(config: str | None, threshold: float | None) -> str:
    """Tell a stage's configuration, and from which score on its findings counted; nothing where it is not recorded."""
    parts = [
        "" if config is None else f"configuration {short(config)}",
        "" if threshold is None else f"findings counted from a score of {share(threshold)} on",
    ]
    told = "; ".join(part for part in parts if part)
    return f" {told[0].upper()}{told[1:]}." if told else ""


def again(attempt: AttemptV1) -> str:
    """Tell what asking once more cost, and what it gained."""
    done = attempt.completed
    if not isinstance(done, CompletedV1):
        return "Asking once more gained nothing: there is no second answer, so the first one counts."
    declined = any(
        finding.kind == "refusal" for word in attempt.audits if isinstance(word, AuditedV1) for finding in word.findings
    )
    tokens = f"{done.prompt_tokens} tokens read and {done.completion_tokens} written"
    gained = "the model declined again, so nothing was gained" if declined else "this time the model did not decline"
    return f"Asking once more cost {ms(done.ms)}, {tokens}; {gained}."


def _trimmed(attempt: AttemptV1) -> str:
    tokens = 0 if attempt.trimmed is None else attempt.trimmed.tokens
    return (
        f"TRIMMED to at most {tokens} tokens of demonstrations, because the model's context holds no more beside the "
        "question and an answer (images go first, then demonstrations, and the share of refusing ones stays)."
    )


def _injected(word: InjectedV1 | FailedV1 | None) -> str:
    if word is None:
        return "None were shown."
    if isinstance(word, FailedV1):
        return failed(word)
    shown = count(len(word.demonstrations), "demonstration")
    return (
        f"Spent: {word.stage} {word.version} put {shown} before the question ({ms(word.ms)}), "
        f"{word.refusing} of them refusing: {listed(word.demonstrations) or 'none'} (digest {word.digest[:16]}…)."
        f"{in_force(word.config, None)}"
    )


def _completed(word: CompletedV1 | FailedV1 | None) -> str:
    if word is None:
        return "The model was not asked."
    if isinstance(word, FailedV1):
        return failed(word)
    ends = listed(tuple(dict.fromkeys(f"`{choice.finish_reason}`" for choice in word.choices)))
    size = listed(tuple(count(choice.characters, "character") for choice in word.choices))
    revision = "" if word.revision is None else f" in its revision {word.revision}"
    text = (
        f"{word.stage} {word.version} asked the model `{word.model}`{revision} ({ms(word.ms)}): "
        f"{count(len(word.choices), 'answer')} of {size}, ended by {ends}; {word.prompt_tokens} tokens read, "
        f"{word.completion_tokens} written."
    )
    if calls := sum(choice.tool_calls for choice in word.choices):
        text += f" It called {count(calls, 'tool')}."
    text += in_force(word.config, None)
    return text + (" The model has NOT seen the images: it was told of them in words." if word.blind else "")


def _audited(word: AuditedV1 | FailedV1) -> str:
    if isinstance(word, FailedV1):
        return failed(word)
    found = "; ".join(map(finding, word.findings)) or "nothing found"
    limits = in_force(word.config, word.threshold)
    return f"{word.stage} {word.version} audited answer {word.choice + 1} ({ms(word.ms)}): {found}.{limits}"


def _verdict(verdict: ReleaseV1 | WithholdV1 | RetryV1) -> str:
    if isinstance(verdict, RetryV1):
        below = "" if verdict.below is None else f", below {share(verdict.below)}"
        return (
            f"Rule `{verdict.rule}`: the model refused a question that the checks called benign{below} (over-defense), "
            f"so it was to be asked once more with {budget(verdict.budget)}."
        )
    if isinstance(verdict, WithholdV1):
        return f"Rule `{verdict.rule}`: the answer was to be withheld, because {because(verdict.reasons)}."
    return f"Rule `{verdict.rule}`: the answer might leave."
