"""The stage: what each image of a request shows, and whether that is what was said."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable

from gateway.plugin import Finding, Image, Modality, Request, Score, Screening, Text, Turn, in_thread
from gateway_modality.encoder import TooLarge
from gateway_modality.judge import GREY, Judge, Verdict
from gateway_modality.words import stated

MAX_REQUEST_PIXELS = 64_000_000
"""Pixels that are decoded for one request; images beyond them are not looked at."""
TOP = 3
"""How many modalities are reported."""
_COLOUR = frozenset({"fundus", "histopathology"})
_THIN = {"dermoscopy": GREY, "endoscopy": GREY, "mammography": _COLOUR}
"""Of these too few true images were seen in training to know them from their like, so a statement that an image is one
of them is contradicted only by modalities that look wholly different."""


class ModalityScreen:
    """Judges the images of a request. `max_images` bounds the work for one request, `cache` the verdicts kept."""

    def __init__(self, judge: Judge, *, max_images: int = 16, cache: int = 4096) -> None:
        self._judge = judge
        self._most = max_images
        self._size = cache
        self._kept: OrderedDict[str, Verdict | None] = OrderedDict()
        self._lock = threading.Lock()

    async def screen(self, request: Request) -> Screening:
        """Judge the images of `request`.

        No part is named as inspected: what an image is of says nothing about whether it is harmful.
        """
        images = request.images()
        if not images:
            return Screening(risk=0.0, inspected=())
        known = self._recall_all(images[: self._most])
        if known is not None:
            return self._sum_up(request, images, known)
        stopped = threading.Event()
        try:
            return await in_thread(self._look, request, images, stopped.is_set)
        except asyncio.CancelledError:
            stopped.set()  # given up or late: the worker stops before its next image
            raise

    def _look(self, request: Request, images: tuple[Image, ...], stopped: Callable[[], bool]) -> Screening:
        verdicts: dict[str, Verdict | None] = {}
        left = MAX_REQUEST_PIXELS
        for image in images[: self._most]:
            if stopped():
                break
            if image.digest in verdicts:
                continue
            kept, verdict = self._recall(image.digest)
            if not kept:
                left -= image.width * image.height
                if left < 0:
                    break
                verdict = self._judged(image)
                self._keep(image.digest, verdict)
            verdicts[image.digest] = verdict
        return self._sum_up(request, images, verdicts)

    def _judged(self, image: Image) -> Verdict | None:
        try:
            return self._judge.look(image.data)
        except (TooLarge, OSError, ValueError, SyntaxError):  # SyntaxError is how Pillow calls a broken PNG
            return None

    def _sum_up(self, request: Request, images: tuple[Image, ...], verdicts: dict[str, Verdict | None]) -> Screening:
        best: dict[str, float] = {}
        notes: set[str] = set()
        for number, image in enumerate(images):
            if number >= self._most or image.digest not in verdicts:
                notes.add("too-many")
                break
            verdict = verdicts[image.digest]
            if verdict is None:
                notes.add("not-looked-at")
                continue
            if not verdict.sure:
                notes.add("abstained")
            for label, share in verdict.shares[:TOP]:
                best[label] = max(best.get(label, 0.0), share)
        ranked = sorted(best.items(), key=lambda pair: -pair[1])[:TOP]
        return Screening(
            risk=0.0,
            inspected=(),
            scores=tuple(Score(label=label, value=share) for label, share in ranked),
            findings=tuple(_mismatches(request, images[: self._most], verdicts)),
            notes=tuple(sorted(notes)),
        )

    def _recall(self, digest: str) -> tuple[bool, Verdict | None]:
        with self._lock:
            if digest not in self._kept:
                return False, None
            self._kept.move_to_end(digest)
            return True, self._kept[digest]

    def _recall_all(self, images: tuple[Image, ...]) -> dict[str, Verdict | None] | None:
        found = {}
        for image in images:
            kept, verdict = self._recall(image.digest)
            if not kept:
                return None
            found[image.digest] = verdict
        return found

    def _keep(self, digest: str, verdict: Verdict | None) -> None:
        with self._lock:
            self._kept[digest] = verdict
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def _mismatches(request: Request, images: tuple[Image, ...], verdicts: dict[str, Verdict | None]) -> list[Finding]:
    looked = {image.id for image in images}
    found = []
    for turn in request.turns:
        shown = [part for part in turn.parts if isinstance(part, Image)]
        said = _said(turn) if len(shown) == 1 else None  # of several images it is not known which one is meant
        for image in shown:
            verdict = verdicts.get(image.digest) if image.id in looked else None
            if verdict is None or not verdict.sure:
                continue
            by_text = said is not None and contradicts(said, verdict.label)
            # The scout view of a CT study looks like an X-ray and bears the study's tag.
            scout = image.modality == "ct" and verdict.label == "xray"
            by_tag = image.modality is not None and contradicts(image.modality, verdict.label) and not scout
            if by_text or by_tag:
                score = verdict.shares[0][1]
                found.append(Finding(kind="mismatch", score=score, part=image.id, label=verdict.label))
    return found


def _said(turn: Turn) -> Modality | None:
    if turn.role != "user":
        return None
    return stated(part.text for part in turn.parts if isinstance(part, Text))


def contradicts(said: Modality, seen: str) -> bool:
    """Say whether an image that surely is `seen` can not be `said`. A mammogram is a kind of X-ray."""
    if said == seen or {said, seen} == {"mammography", "xray"}:
        return False
    return said not in _THIN or seen in _THIN[said]
