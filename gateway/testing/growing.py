"""Checks of answers that grow: what a model streams, and what auditors find in time as the pipeline lets text leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.pipeline.leaving import LateFinding, Leaving
from gateway.pipeline.windows import WIDEST
from gateway.policy.answers import merge
from gateway.policy.decision import Redaction
from gateway.policy.growing import Growing
from gateway.policy.validate import completion_problem
from gateway.stages import StreamingBackend, WindowedAuditor
from gateway.testing.builders import completion, demonstration, request
from gateway.testing.corpus import ANSWERS, MARKER
from gateway.testing.watch import watch
from gateway.values import Ended, Finding, Prompt, Window

SURE = 0.5
"""Findings with at least this score have to be found in time."""

_FILLER = "The lungs are clear and the heart is of normal size. "
_STEPS = (7, 48, 300)  # characters that a model may write before the auditors look again


async def found_late(auditor: WindowedAuditor, prompt: Prompt, text: str, ends: Iterable[int]) -> str | None:
    """Let `text` grow to each of `ends` in turn, and leave as far as it may; tell what is found too late, or None.

    Too late is a span with a score of `SURE` or more that is found in the whole, and of which some character has left.
    """
    window = auditor.window()
    hold_back, overlap, leaving = window.characters, max(window.overlap, window.characters), Leaving()
    for end in ends:
        if end - hold_back <= leaving.left:
            continue
        start = max(0, leaving.left - overlap)
        found = await auditor.audit(prompt, completion(text[start:end]))
        try:
            leaving.advance(text[:end], _spans(found, start, leaving.left), hold_back)
        except LateFinding:
            return f"at {end} characters a finding begins in what has left: declare more `characters` or `overlap`"
    for span in _spans(await auditor.audit(prompt, completion(text)), 0, 0):
        if leaving.late((span,)):
            return f"`{span.label}` from {span.start} to {span.end} left before it was found: declare more `characters`"
    return None


async def stream_problem(backend: StreamingBackend, asked: Prompt, *, same: bool) -> str | None:
    """Check what a model streams; with `same` its texts must be those that it gives as a whole."""
    n = asked.request.sampling.n
    with watch() as written:
        given = backend.stream(asked)
        async for _ in given:
            break  # a caller that goes away after the first piece
        try:
            await given.aclose()
        except RuntimeError:
            return "it goes on when it is closed: let GeneratorExit pass"
        pieces = [piece async for piece in backend.stream(asked)]
        whole = await backend.complete(asked)
    if not pieces or type(pieces[-1]) is not Ended:
        return "the last item must be an `Ended`, none came"
    growing = Growing(n)
    for piece in pieces[:-1]:
        if (problem := growing.add(piece)) is not None:
            return f"a piece is no good: {problem}"
    answered = growing.completion(pieces[-1])
    if (problem := completion_problem(answered, n)) is not None:
        return f"the answer that it adds up to is no good: {problem}"
    if same and [choice.text.text for choice in answered.choices] != [choice.text.text for choice in whole.choices]:
        return "its pieces add up to another answer than `complete` gives"
    where = written.leaks(MARKER)
    return None if where is None else f"text of a request was written to {where}"


async def window_problem(auditor: WindowedAuditor) -> str | None:
    """Check what an auditor declares, over the corpus' answers and others, cut in several ways."""
    window = auditor.window()
    if type(window) is not Window or type(window.characters) is not int or type(window.overlap) is not int:
        return "give a `Window` of whole numbers"
    if not 1 <= window.characters <= WIDEST or window.overlap > WIDEST:
        return f"give 1 to {WIDEST} characters; an auditor that needs more has no `window`, and gets the whole answer"
    if window.overlap and window.overlap < window.characters:
        return "`overlap` is less than `characters`, which are shown again in any case: give more, or leave it out"
    lead = _filler(max(window.overlap, window.characters) + window.characters)
    tail = _filler(window.characters)
    for name, prompt, said in _answers():
        for before in ("", lead):
            text = f"{before}{said}\n{tail}"
            if not _spans(await auditor.audit(prompt, completion(text)), 0, 0):
                continue
            for step in _STEPS:
                problem = await found_late(auditor, prompt, text, _ends(len(before), len(text), window, step))
                if problem is not None:
                    return f"`{name}` in steps of {step}: {problem}"
    return None


def _answers() -> Iterator[tuple[str, Prompt, str]]:
    asked = request(f"Is there a fracture of the wrist? {MARKER}")
    for name, said in ANSWERS.items():
        yield name, Prompt(request=asked), said
    shown = (demonstration(0, refuses=True), demonstration(1))
    yield "demonstration", Prompt(request=asked, demonstrations=shown), f"You asked: {shown[0].question}"


def _filler(size: int) -> str:
    return _FILLER * (size // len(_FILLER) + 1)


def _ends(before: int, length: int, window: Window, step: int) -> Iterator[int]:
    """Give the lengths at which the auditors look: few of them in the filler before the answer."""
    yield from range(window.characters + 1, before, window.characters)
    yield from range(before + 1, length, step)


def _spans(found: Iterable[Finding], start: int, left: int) -> tuple[Redaction, ...]:
    """Give the spans to keep back of what was found in a stretch from `start`, but for those that have left."""
    return merge(
        Redaction(
            choice=0,
            part=one.part,
            start=one.start + start,
            end=one.end + start,
            replacement=one.replacement or "",
            label=one.label or one.kind,
        )
        for one in found
        if one.start is not None and one.end is not None and one.score >= SURE and one.end + start > left
    )
