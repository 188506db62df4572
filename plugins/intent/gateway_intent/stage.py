"""The stage: every text part of a request, in each of its readings, and the user's turns as one text."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.plugin import Request, Score, Screening, Text, View, in_thread, views
from gateway_intent.judge import Ids, Judge, Verdict
from gateway_intent.language import readable

MAX_CHARS = 65_536
"""A text part longer than this is not inspected."""
TERSE = 3
"""A DICOM tag of at most so many words is judged together with the other terse ones of its image."""
TOP = 3
"""How many harm categories are reported."""


class IntentScreen:
    """Judges the texts of a request. `max_windows` bounds the work for one request."""

    def __init__(self, judge: Judge, *, max_windows: int = 64) -> None:
        self.judge = judge
        self.max_windows = max_windows

    async def screen(self, request: Request) -> Screening:
        """Judge `request`; the worst reading of the worst part counts."""
        return await in_thread(self.look, request)

    def look(self, request: Request) -> Screening:
        """Judge `request` in the calling thread.

        A part is inspected if all of its readings were judged: one that is too long, or in a language that the encoder
        cannot read, is left out of `Screening.inspected`, though what was read of it still counts.
        """
        pass_ = _Pass(self.judge, self.max_windows)
        terse = terse_tags(request)
        alone = (part for part in request.texts() if part.id not in {tag.id for tags in terse for tag in tags})
        inspected = [part.id for part in alone if pass_.read(part.id, part.text)]
        for tags in terse:
            if pass_.read(tags[0].id, ", ".join(tag.text for tag in tags), name="dicom"):
                inspected += (tag.id for tag in tags)
        asked = [part for part in user_texts(request) if part.text.strip()]
        if len(asked) > 1:
            joined = "\n".join(part.text for part in asked)
            # Where the turns together cannot be judged, none of them has been seen in what it is part of.
            if not pass_.read(asked[-1].id, joined, name="conversation"):
                unseen = {part.id for part in asked}
                inspected = [name for name in inspected if name not in unseen]
        return pass_.screening(tuple(dict.fromkeys(inspected)))


def terse_tags(request: Request) -> tuple[tuple[Text, ...], ...]:
    """Give the DICOM tags of a few words each, together for each image, so that they are judged as one text.

    A scanner writes dozens of them (``LARGE BOWTIE FIL``). Alone, a word or two is no request that anybody could judge,
    and each would take a window; together they read as the header they are, and words spread over them meet again.
    """
    headers: dict[str, list[Text]] = {}
    for part in request.texts():
        image, mark, _ = part.id.partition("#dicom/")
        if mark and part.text.strip() and len(part.text.split()) <= TERSE:
            headers.setdefault(image, []).append(part)
    return tuple(map(tuple, headers.values()))


def user_texts(request: Request) -> tuple[Text, ...]:
    """Give the text parts of the user's turns, in reading order."""
    return tuple(part for turn in request.turns if turn.role == "user" for part in turn.parts if isinstance(part, Text))


class _Pass:
    """One pass over a request: the worst verdict so far, and the windows left."""

    def __init__(self, judge: Judge, max_windows: int) -> None:
        self._judge = judge
        self._left = max_windows
        self._worst: tuple[Verdict, str, str] | None = None
        self._notes: set[str] = set()

    def read(self, part: str, text: str, name: str | None = None) -> bool:
        """Judge one text in all its readings; say whether it was judged whole. `name` stands before a view's name."""
        if not text.strip():
            return True
        if len(text) > MAX_CHARS:
            self._notes.add("too-long")
            return False
        readings = tuple(views(text))
        whole = self._understood(readings)
        if any(reading.cut for reading in readings):
            self._notes.add("too-deep")
            whole = False
        seen: set[Ids] = set()
        for reading in readings:
            label = reading.name if name is None else (name if reading.name == "raw" else f"{name}.{reading.name}")
            ids = self._judge.tokens(reading.text)
            if not ids or ids in seen:
                continue
            seen.add(ids)
            if self._judge.count(ids) > self._left:
                self._notes.add("too-long")
                whole = False
                continue
            self._left -= self._judge.count(ids)
            for window in self._judge.windows(ids):
                verdict = self._judge.verdict(window)
                if self._worst is None or verdict.risk > self._worst[0].risk:
                    self._worst = (verdict, part, label)
        return whole

    def _understood(self, readings: Iterable[View]) -> bool:
        """Say whether the encoder reads the text: what was decoded too, and normalised if that differs from raw."""
        normalised = any(reading.name == "normalised" for reading in readings)
        for reading in readings:
            if reading.name == "raw" and normalised:
                continue
            if not readable(reading.text) or not self._judge.knows(self._judge.tokens(reading.text)):
                self._notes.add("language-not-read")
                return False
        return True

    def screening(self, inspected: tuple[str, ...]) -> Screening:
        """Sum up."""
        notes = tuple(sorted(self._notes))
        if self._worst is None:
            return Screening(risk=0.0, inspected=inspected, notes=notes)
        verdict, part, view = self._worst
        ranked = sorted(zip(self._judge.labels, verdict.categories, strict=True), key=lambda pair: -pair[1])[:TOP]
        scores = tuple(Score(label=label, value=verdict.risk * share) for label, share in ranked)
        return Screening(risk=verdict.risk, inspected=inspected, scores=scores, part=part, view=view, notes=notes)
