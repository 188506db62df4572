"""What a model could read of a request, and who looked at it."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.policy.evidence import Inspected, Screened, ScreenEvidence
from gateway.values import Request, Sampling, Text, Turn


def view_of(texts: tuple[Text, ...], request: Request) -> Request:
    """Make the request by which text found inside images is judged: as if the user had typed it."""
    turn = Turn(role="user", parts=texts)
    return Request(
        id=request.id, department=request.department, model=request.model, turns=(turn,), sampling=Sampling()
    )


def found_in(evidence: Iterable[ScreenEvidence]) -> tuple[Text, ...]:
    """Give the text that pre-screeners found inside images."""
    return tuple(text for word in evidence if isinstance(word, Screened) for text in word.screening.found)


def coverage_of(request: Request, evidence: tuple[ScreenEvidence, ...]) -> tuple[Inspected, ...]:
    """Account for every part a model could read, found text included: which stages looked at it."""
    looked: dict[str, list[str]] = {}
    for word in evidence:
        if isinstance(word, Screened):
            for part in word.screening.inspected:
                looked.setdefault(part, []).append(word.stage)
    rows = [
        Inspected(part=p.id, kind="text" if isinstance(p, Text) else "image", by=tuple(looked.get(p.id, ())))
        for p in request.parts()
    ]
    rows += [Inspected(part=t.id, kind="text", by=tuple(looked.get(t.id, ()))) for t in found_in(evidence)]
    return tuple(rows)
