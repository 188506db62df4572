"""The stage: a score of adversarial noise for each image of a request."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable

from gateway.plugin import Finding, Image, Request, Screening, in_thread
from gateway_perturbation.detector import Detector, Unfit

MAX_REQUEST_PIXELS = 64_000_000
"""Pixels that are decoded for one request; images beyond them are not judged."""

Judged = float | str
"""A score, or the note that says why there is none."""


class PerturbationScreen:
    """Judges the images of a request. `max_images` bounds the work for one request, `cache` the scores kept."""

    def __init__(self, detector: Detector, *, max_images: int = 8, floor: float = 0.05, cache: int = 4096) -> None:
        self._detector = detector
        self._most = max_images
        self._floor = floor
        self._size = cache
        self._kept: OrderedDict[str, Judged] = OrderedDict()
        self._lock = threading.Lock()

    async def screen(self, request: Request) -> Screening:
        """Judge the images of `request`.

        No part is named as inspected: an image without adversarial noise may still be harmful.
        """
        images = request.images()
        if not images:
            return Screening(risk=0.0, inspected=())
        known = {image.digest: self._recall(image.digest) for image in images[: self._most]}
        if None not in known.values():
            return self._sum_up(images, {digest: value for digest, value in known.items() if value is not None})
        stopped = threading.Event()
        try:
            return await in_thread(self._look, images, stopped.is_set)
        except asyncio.CancelledError:
            stopped.set()  # given up or late: the worker stops before its next image
            raise

    def _look(self, images: tuple[Image, ...], stopped: Callable[[], bool]) -> Screening:
        found: dict[str, Judged] = {}
        left = MAX_REQUEST_PIXELS
        for image in images[: self._most]:
            if stopped():
                break
            if image.digest in found:
                continue
            value = self._recall(image.digest)
            if value is None:
                left -= image.width * image.height
                if left < 0:
                    break
                value = self._judged(image)
                self._keep(image.digest, value)
            found[image.digest] = value
        return self._sum_up(images, found)

    def _judged(self, image: Image) -> Judged:
        try:
            return self._detector.score(image.data, (image.width, image.height))
        except Unfit as unfit:
            return str(unfit.args[0])
        except ValueError:
            return "unreadable"

    def _sum_up(self, images: tuple[Image, ...], found: dict[str, Judged]) -> Screening:
        findings: list[Finding] = []
        notes: set[str] = set()
        for number, image in enumerate(images):
            if number >= self._most or image.digest not in found:
                notes.add("too-many")
                break
            value = found[image.digest]
            if isinstance(value, str):
                notes.add(value)
            elif value >= self._floor:
                findings.append(Finding(kind="adversarial-noise", score=value, part=image.id))
        return Screening(risk=0.0, inspected=(), findings=tuple(findings), notes=tuple(sorted(notes)))

    def _recall(self, digest: str) -> Judged | None:
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def _keep(self, digest: str, value: Judged) -> None:
        with self._lock:
            self._kept[digest] = value
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
