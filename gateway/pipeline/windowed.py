"""One answer that leaves window by window: audited while it grows, and once more as a whole at its end.

What leaves is always a prefix of what was audited and may be released. Tool calls leave with the end, when they are
whole. Where a finding is made of text that has left, the answer ends there.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.pipeline.auditing import Auditors
from gateway.pipeline.call import Fault
from gateway.pipeline.gone import GONE
from gateway.pipeline.leaving import LateFinding, Leaving
from gateway.pipeline.pump import Pump
from gateway.pipeline.stretches import late_finding, one_of, saying, shifted
from gateway.pipeline.windows import Windows
from gateway.policy.decide import redact, release
from gateway.policy.decision import Admit, Reason, Redaction, Release, Retry, Verdict, Withhold
from gateway.policy.evidence import AuditEvidence, StageFailed
from gateway.policy.growing import Growing
from gateway.policy.model import AuditSpec, Policy
from gateway.policy.validate import completion_problem
from gateway.records import Completed, Outcome, Streamed
from gateway.values import Completion, Ended, Piece, Prompt

if TYPE_CHECKING:
    from gateway.pipeline.built import Built
    from gateway.pipeline.gone import Gone

STEP = 48
"""Characters that may leave before the auditors look again: they look at several tokens at once."""

PAUSE = 0.15
"""Seconds after which they look again, although fewer may leave."""


class Left(Struct, frozen=True, kw_only=True):
    """Audited text of a choice that leaves now."""

    choice: int
    text: str


class CallerGone(Exception):
    """Nobody takes what leaves any more."""


Leave = Callable[[Left], Awaitable[None]]
"""Hands audited text over; returns when there is room for more. Raises CallerGone."""

Opening = Callable[[Outcome, int], Leave]
"""Takes what is known of an admitted request and how many characters are held back; gives what lets text leave."""

Ends = Literal["finding", "check-failed", "model-failed", "caller-gone"]
"""How an answer ends of which only a part has left."""

Answered = tuple[Completed | StageFailed, tuple[AuditEvidence, ...], Verdict]


class Windowed:
    """The answers to one request that may leave window by window; `answer` makes one of them.

    `left` says whether something has left, `told` is how it was streamed, and `final` how the request ends where
    something has left: the verdict that counts, with what left of the answer. `began` is when the request came, by
    `time.perf_counter`.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        backend: Built,
        auditors: Auditors,
        windows: Windows,
        leave: Leave,
        gone: Gone | None,
        began: float,
    ) -> None:
        self._policy = policy
        self._once = replace(policy, over_defense=None)
        self._backend, self._auditors, self._windows = backend, auditors, windows
        self._leave, self._gone = leave, gone
        self._began = began
        self._choices: list[Leaving] = []
        self.left = False
        self.final: tuple[Withhold | Release, Completion] | None = None
        self.told = Streamed(mode="windowed", hold_back=windows.hold_back)

    async def answer(self, prompt: Prompt, admission: Admit, number: int, end: float) -> Answered:
        """Ask the model, and let its answer leave as far as it may. Raises Unavailable where `leave` does."""
        asking = _Asking(self, prompt, admission, number, end)
        self._choices = [Leaving() for _ in range(prompt.request.sampling.n)]
        try:
            return await asking.run()
        finally:
            asking.pump.close()

    @property
    def _judges(self) -> Policy:
        """Give the policy that decides now: once something has left, nothing can be asked again."""
        return self._once if self.left else self._policy


class _Asking:
    """One asking of the model. It reads and writes the state of its `Windowed`, whose part it is."""

    def __init__(self, windowed: Windowed, prompt: Prompt, admission: Admit, number: int, end: float) -> None:
        self._to, self._prompt, self._admission = windowed, prompt, admission
        self._number, self._end = number, end
        self._growing = Growing(prompt.request.sampling.n)
        self._started = time.perf_counter()
        self._until = min(end, self._started + windowed._policy.backend.deadline.seconds)
        self._looked = [self._started] * prompt.request.sampling.n
        self._again = [0] * prompt.request.sampling.n
        self.pump = Pump(lambda: windowed._backend.stage.stream(prompt), windowed._gone)

    async def run(self) -> Answered:
        while True:
            last = self._take(await self.pump.some(self._until - time.perf_counter()))
            if isinstance(last, Fault):
                return self._failed(last.cause)
            if self._to._gone is not None and self._to._gone.told:
                return self._failed(GONE)  # even where the model has ended: nobody takes the rest
            if last is not None:
                return await self._finish(last)
            try:
                for choice in range(len(self._looked)):
                    if self._due(choice) and (found := await self._look(choice)) is not None:
                        return await self._stop(*found)
            except CallerGone:
                return self._failed(GONE)

    def _take(self, items: tuple[Piece | Ended | Fault, ...]) -> Ended | Fault | None:
        """Add what was written further; give how the stream ended, where it has."""
        for item in items:
            if not isinstance(item, Piece):
                return item
            problem = self._growing.add(item)
            if problem is not None:
                return Fault(cause=problem)
        return None

    def _due(self, choice: int) -> bool:
        length = self._growing.length(choice)
        ready = length - self._to._windows.hold_back - self._to._choices[choice].left
        if ready <= 0 or length < self._again[choice]:
            return False
        return ready >= STEP or not self._to.left or time.perf_counter() - self._looked[choice] >= PAUSE

    async def _look(self, choice: int) -> tuple[tuple[AuditEvidence, ...], Withhold] | None:
        """Ask the auditors about the newest stretch of a choice, and let leave what may; else what withholds it."""
        leaving, text = self._to._choices[choice], self._growing.text(choice)
        # where nothing leaves the next stretch is longer, and to look as often would cost the square of its length
        self._again[choice] = len(text) + max(STEP, (len(text) - leaving.left) // 2)
        words = tuple([await self._ask(spec, choice, text, leaving.left) for spec in self._to._policy.audit])
        self._looked[choice] = time.perf_counter()
        so_far = one_of(self._prompt, choice, text)
        verdict = release(self._to._judges, self._admission, so_far, words, self._number)
        if isinstance(verdict, Withhold):
            return words, verdict
        if isinstance(verdict, Retry):
            return None  # it refuses: held to its end, which decides whether the model is asked once more
        try:
            out = leaving.advance(text, verdict.redactions, self._to._windows.hold_back)
        except LateFinding:
            return words, late_finding(words, choice, leaving.left, self._to._policy)
        if out:
            self._again[choice] = 0
            try:
                await self._out(choice, out)
            except CallerGone:
                leaving.unsay()
                raise
        return None

    async def _ask(self, spec: AuditSpec, choice: int, text: str, left: int) -> AuditEvidence:
        start = max(0, left - self._to._windows.by_stage[spec.stage].overlap)
        stretch = one_of(self._prompt, choice, text[start:])
        one = stretch.choices[0]
        word = await self._to._auditors.one(spec, self._prompt, stretch, one, self._number, self._end)
        if isinstance(word, StageFailed) or not word.findings:
            return word
        findings = (shifted(finding, start, len(text), whole=not start) for finding in word.findings)
        # what lies in text that has left was judged when it did, and is once more with the whole
        return replace(word, findings=tuple(f for f in findings if f.end is None or f.end > left))

    async def _out(self, choice: int, text: str) -> None:
        if not self._to.left:
            self._to.left = True
            self._to.told = replace(self._to.told, first_ms=(time.perf_counter() - self._to._began) * 1000)
        await self._to._leave(Left(choice=choice, text=text))

    async def _finish(self, ended: Ended) -> Answered:
        """Audit the whole answer, and decide on it as on one that was held."""
        completion = self._growing.completion(ended)
        problem = completion_problem(completion, self._prompt.request.sampling.n)
        if problem is not None:
            return self._failed(problem)
        audits = await self._to._auditors.whole(self._prompt, completion, self._number, self._end)
        verdict = release(self._to._judges, self._admission, completion, audits, self._number)
        completed = self._completed(completion)
        if not self._to.left:
            return completed, audits, verdict
        if isinstance(verdict, Release):
            late = self._tail(completion, verdict.redactions)
            if late is None:
                said = [leaving.said for leaving in self._to._choices]
                self._to.final = verdict, saying(redact(completion, verdict.redactions), said)
                return completed, audits, verdict
            verdict = late_finding(audits, late, self._to._choices[late].left, self._to._policy)
        if isinstance(verdict, Withhold):
            self._ends(_by_check(verdict), verdict)
        return completed, audits, verdict

    def _tail(self, completion: Completion, redactions: tuple[Redaction, ...]) -> int | None:
        """Let the rest of every text leave with the end; else the choice in which something was found too late."""
        spans: list[list[Redaction]] = []
        for choice, leaving in zip(completion.choices, self._to._choices, strict=True):
            spans.append([span for span in redactions if (span.choice, span.part) == (choice.index, choice.text.id)])
            if leaving.late(spans[-1]):
                return choice.index
        for choice, leaving, own in zip(completion.choices, self._to._choices, spans, strict=True):
            leaving.finish(choice.text.text, own)
        return None

    async def _stop(self, words: tuple[AuditEvidence, ...], verdict: Withhold) -> Answered:
        """End an answer in which a stretch has shown something: the record has all that was written."""
        self.pump.close()
        completion = self._growing.completion(Ended(model=self._prompt.request.model), cut=True)
        audits = words
        if len(completion.choices) > 1:
            whole = await self._to._auditors.whole(self._prompt, completion, self._number, self._end)
            told = {(word.stage, word.choice) for word in words}
            audits = (*words, *(word for word in whole if (word.stage, word.choice) not in told))
        if self._to.left:
            self._ends(_by_check(verdict), verdict)
        return self._completed(completion), audits, verdict

    def _failed(self, cause: str) -> Answered:
        built, ms = self._to._backend, (time.perf_counter() - self._started) * 1000
        failed = StageFailed(
            stage=built.name, version=built.version, kind="backend", cause=cause, ms=ms, attempt=self._number
        )
        verdict = model_failed(failed)
        if self._to.left:
            self._ends("caller-gone" if cause == GONE else "model-failed", verdict)
        return failed, (), verdict

    def _completed(self, completion: Completion) -> Completed:
        built, ms = self._to._backend, (time.perf_counter() - self._started) * 1000
        return Completed(stage=built.name, version=built.version, ms=ms, completion=completion)

    def _ends(self, how: Ends, verdict: Withhold) -> None:
        """Note that the answer ends early, with what has left of it."""
        said = [leaving.said for leaving in self._to._choices]
        so_far = self._growing.completion(Ended(model=self._prompt.request.model), cut=True)
        bare = (replace(choice, tool_calls=(), finish_reason="content_filter") for choice in so_far.choices)
        self._to.final = verdict, saying(replace(so_far, choices=tuple(bare)), said)
        self._to.told = replace(self._to.told, ended=how)


def _by_check(verdict: Withhold) -> Literal["finding", "check-failed"]:
    """Say whether a check found something, or none of those that stopped the answer did and they failed instead."""
    return "finding" if any(reason.code == "finding" for reason in verdict.reasons) else "check-failed"


def told(windowed: Windowed | None, windows: Windows | str, attempts: int) -> Streamed:
    """Tell how the answer to a stream was carried out, of which `windows` says whether it could leave in windows."""
    if windowed is None:
        return Streamed(mode="held", why=windows if isinstance(windows, str) else None)
    if windowed.left:
        return windowed.told
    return replace(windowed.told, mode="held", why="retry" if attempts > 1 else None)


def model_failed(failed: StageFailed) -> Withhold:
    """Decide on an asking that gave no answer: the model failed, or its caller had gone."""
    code = GONE if failed.cause == GONE else "model-failed"
    return Withhold(reasons=(Reason(code=code, stage=failed.stage, cause=failed.cause),), rule="backend")
