"""The stage: every text part of a request, in each of its readings, and the user's turns as one text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from gateway.plugin import Finding, Request, Score, Screening, Text, View, in_thread, views
from gateway_intent.judge import Judge, Verdict
from gateway_intent.language import readable
from gateway_intent.segments import segments
from gateway_intent.together import Ids

MAX_CHARS = 65_536
"""A text part longer than this is not inspected."""
TERSE = 3
"""A DICOM tag of at most so many words is judged together with the other terse ones of its image."""
TOP = 3
"""How many harm categories are reported."""
SUSPECT = 0.5
"""From this probability on a text counts as a jailbreak: a finding is made, and its sentences are judged one by one."""
SHORT = 5
"""A last turn of fewer words says nothing of its subject alone: the conversation is judged for it."""
WORD = 4
"""A word of at most so many tokens, alone in a part, asks for nothing: only the turns together are judged for it."""
PLAIN_VIEWS = frozenset({"raw", "normalised", "turns", "joined"})
"""Readings that prove no jailbreak by themselves: the others were encoded, or hold a chat template's control tokens."""


class IntentScreen:
    """Judges the texts of a request. `max_windows` bounds the work for one request.

    Without `readings` a text is judged as it stands alone: only to measure what they buy.
    """

    def __init__(self, judge: Judge, *, max_windows: int = 64, readings: bool = True) -> None:
        self.judge = judge
        self.max_windows = max_windows
        self.readings = readings

    async def screen(self, request: Request) -> Screening:
        """Judge `request`; the worst reading of the worst part counts."""
        return await in_thread(self.look, request)

    def look(self, request: Request) -> Screening:
        """Judge `request` in the calling thread.

        A part is inspected if all of its readings were judged: one that is too long, or in a language that the encoder
        cannot read, is left out of `Screening.inspected`, though what was read of it still counts.
        """
        pass_ = _Pass(self.judge, self.max_windows, self.readings)
        terse = terse_tags(request)
        together = {tag.id for tags in terse for tag in tags}
        asked = [part for part in user_texts(request) if part.text.strip()]
        typed = {part.id for part in asked}
        alone = (part for part in request.texts() if part.id not in together)
        inspected = [part.id for part in alone if pass_.read(part.id, part.text, typed=part.id in typed)]
        for tags in terse:
            if pass_.read(tags[0].id, ", ".join(tag.text for tag in tags), name="dicom"):
                inspected += (tag.id for tag in tags)
        joined = "\n".join(part.text for part in asked)
        if len(asked) > 1 and not pass_.read(asked[-1].id, joined, name="conversation"):
            # Where the turns together cannot be judged, none of them has been seen in what it is part of.
            inspected = [name for name in inspected if name not in typed]
        return pass_.screening(tuple(dict.fromkeys(inspected)), self._clinical(request, asked, joined, pass_))

    def _clinical(self, request: Request, asked: list[Text], joined: str, pass_: _Pass) -> float | None:
        """Give the probability that the request is about clinical work; None for text that was found in images.

        The user's last words count, so that a change of subject is seen; where they are too few to tell, all of their
        turns do. An image without a word is a question that nobody has said anything of: 0.5.
        """
        if all("#" in part.id for part in request.parts()):
            return None
        if not asked:
            return 0.5 if request.images() else None
        last = asked[-1].text
        text = joined if len(last.split()) < SHORT else last
        windows = itertools.islice(self.judge.windows(pass_.tokens(text[:MAX_CHARS])), SHORT)
        return max((self.judge.verdict(window).clinical for window in windows), default=0.5)


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


def proof(view: str) -> str | None:
    """Give the technique that a reading's name proves: J04 for an encoding, J07 for control tokens; None for none."""
    odd = set(view.split("+")) - PLAIN_VIEWS
    return None if not odd else "J07" if odd == {"tokens"} else "J04"


class _Pass:
    """One pass over a request: the worst verdict so far, the surest jailbreak, and the windows left."""

    def __init__(self, judge: Judge, max_windows: int, readings: bool) -> None:
        self._judge = judge
        self._readings = readings
        self._left = max_windows
        self._worst: tuple[Verdict, str, str] | None = None
        self._jailbreak: Finding | None = None
        self._notes: set[str] = set()
        self._tokens: dict[str, Ids] = {}

    def tokens(self, text: str) -> Ids:
        """Give the token ids of a text, cut once however often it is looked at."""
        if text not in self._tokens:
            self._tokens[text] = self._judge.tokens(text)
        return self._tokens[text]

    def read(self, part: str, text: str, name: str | None = None, *, typed: bool = False) -> bool:
        """Judge one text in all its readings; say whether it was judged whole.

        `name` stands before a view's name; `typed` says that the user wrote it, so that jailbreaks count. A text that
        looks like one is judged sentence by sentence too: what a wrapping asks for may drown in the wrapping.
        """
        if not text.strip():
            return True
        if len(text) > MAX_CHARS:
            self._notes.add("too-long")
            return False
        readings = tuple(views(text)) if self._readings else (View(name="raw", text=text),)
        whole = self._understood(readings)
        if any(reading.cut for reading in readings):
            self._notes.add("too-deep")
            whole = False
        seen: set[Ids] = set()
        suspect = 0.0
        for reading in readings:
            label = reading.name if name is None else (name if reading.name == "raw" else f"{name}.{reading.name}")
            verdicts = self._verdicts(reading.text, seen)
            if verdicts is None:
                whole = False
                continue
            if not self._word(reading):
                self._weigh(verdicts, part, label)
            if typed:
                suspect = max(suspect, self._suspect(verdicts, part, proof(reading.name)))
        if suspect >= SUSPECT and self._readings:
            for piece in segments(readings[-1].text if len(readings) == 2 else text):
                verdicts = self._verdicts(piece, seen)
                if verdicts is None:
                    whole = False
                    break
                self._weigh(verdicts, part, "segment" if name is None else f"{name}.segment")
        return whole

    def _word(self, reading: View) -> bool:
        """Say whether a reading is a short word as it was written: what was decoded may be a word and a request."""
        short = reading.name in {"raw", "normalised"} and len(reading.text.split()) == 1
        return short and len(self.tokens(reading.text)) <= WORD

    def _verdicts(self, text: str, seen: set[Ids]) -> list[Verdict] | None:
        """Judge the windows of one reading: none where it was seen before, None where there are too many of them."""
        ids = self.tokens(text)
        if not ids or ids in seen:
            return []
        seen.add(ids)
        if self._judge.count(ids) > self._left:
            self._notes.add("too-long")
            return None
        self._left -= self._judge.count(ids)
        return [self._judge.verdict(window) for window in self._judge.windows(ids)]

    def _weigh(self, verdicts: list[Verdict], part: str, label: str) -> None:
        for verdict in verdicts:
            if self._worst is None or verdict.risk > self._worst[0].risk:
                self._worst = (verdict, part, label)

    def _suspect(self, verdicts: list[Verdict], part: str, coded: str | None) -> float:
        """Give how surely a reading is a jailbreak, and keep the surest as a finding."""
        techniques = self._judge.head.techniques
        none = techniques.index("none")
        best, label = (1.0, coded) if coded is not None and verdicts else (0.0, "none")
        for verdict in verdicts:
            score = 1.0 - verdict.techniques[none]
            if score > best:
                named = [(value, name) for value, name in zip(verdict.techniques, techniques, strict=True)]
                best, label = score, max(pair for pair in named if pair[1] != "none")[1]
        if best >= SUSPECT and (self._jailbreak is None or best > self._jailbreak.score):
            self._jailbreak = Finding(kind="jailbreak", score=min(best, 1.0), part=part, label=label)
        return best

    def _understood(self, readings: Iterable[View]) -> bool:
        """Say whether the encoder reads the text: what was decoded too, and normalised if that differs from raw."""
        normalised = any(reading.name == "normalised" for reading in readings)
        for reading in readings:
            if reading.name == "raw" and normalised:
                continue
            if not readable(reading.text) or not self._judge.knows(self.tokens(reading.text)):
                self._notes.add("language-not-read")
                return False
        return True

    def screening(self, inspected: tuple[str, ...], clinical: float | None) -> Screening:
        """Sum up."""
        notes = tuple(sorted(self._notes))
        findings = () if self._jailbreak is None else (self._jailbreak,)
        if self._worst is None:
            return Screening(risk=0.0, inspected=inspected, findings=findings, clinical=clinical, notes=notes)
        verdict, part, view = self._worst
        ranked = sorted(zip(self._judge.labels, verdict.categories, strict=True), key=lambda pair: -pair[1])[:TOP]
        scores = tuple(Score(label=label, value=verdict.risk * share) for label, share in ranked)
        return Screening(
            risk=verdict.risk, inspected=inspected, scores=scores, findings=findings, clinical=clinical, part=part,
            view=view, notes=notes,
        )  # fmt: skip
