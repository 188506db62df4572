"""The pre-screener `image-text`: reads the text in every image and hands it on, to be judged as if the user typed it.

It gives no risk of its own. An image whose text could not be read to the end is not named as inspected, so that the
policy refuses it. What a scanner writes into its images is handed on too, apart from what may ask something.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from gateway.plugin import Image, Request, Screening, Stage, Text, hookimpl

if TYPE_CHECKING:
    from gateway_image_text.reader import Reader, Reading

__all__ = ["Config", "ImageText", "gateway_prescreeners"]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How images are read.

    `threads` serve one image, `workers` images are read at once. `max_side` is the longer side, in pixels, that an
    image is scaled to before letters are looked for, and about the side of the tiles that a larger image is then looked
    at in: memory grows with its square. `smallest` is the font size, in pixels of the image, down to which letters are
    looked for. `seconds` bounds the time for one image. `cache` counts the images whose text is kept in memory, by
    digest.
    """

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_side: Annotated[int, Meta(ge=320, le=2048)] = 640
    smallest: Annotated[int, Meta(ge=10, le=200)] = 10
    seconds: Annotated[float, Meta(gt=0, le=600)] = 6.0
    cache: Annotated[int, Meta(ge=0, le=100_000)] = 1024


class ImageText:
    """Reads images one after another in threads of its own, so that waiting images hold no thread that others need."""

    def __init__(self, reader: Reader, *, workers: int, cache: int) -> None:
        self._reader = reader
        self._workers = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="image-text")
        self._size = cache
        self._kept: OrderedDict[str, Reading] = OrderedDict()
        self._lock = threading.Lock()

    async def screen(self, request: Request) -> Screening:
        """Give the text in the images of `request`; an image is inspected if all that was found in it was read."""
        images = request.images()
        if not images:
            return Screening(risk=0.0, inspected=())
        readings = [reading for image in images if (reading := self._recall(image)) is not None]
        if len(readings) < len(images):
            stopped = threading.Event()
            job = asyncio.get_running_loop().run_in_executor(self._workers, self._read, images, stopped.is_set)
            try:
                readings = await job
            finally:
                stopped.set()  # given up or late: the worker stops at its next step
        inspected: list[str] = []
        found: list[Text] = []
        notes: set[str] = set()
        for image, reading in zip(images, readings, strict=True):
            if reading.complete:
                inspected.append(image.id)
            else:
                notes.add("time-bound" if reading.late else "too-much-text")
            if reading.unreadable:
                notes.add("unreadable")
            if reading.text:
                found.append(Text(id=f"{image.id}#ocr", text=reading.text))
            if reading.annotations:
                notes.add("annotations")
                found.append(Text(id=f"{image.id}#annotations", text=reading.annotations))
        return Screening(risk=0.0, inspected=tuple(inspected), found=tuple(found), notes=tuple(sorted(notes)))

    async def aclose(self) -> None:
        """Take no more images."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _read(self, images: Iterable[Image], stopped: Callable[[], bool]) -> list[Reading]:
        readings = []
        for image in images:
            reading = self._recall(image)  # another request, or this one, may have read it meanwhile
            if reading is None:
                reading = self._reader.read(image.data, stopped)
                if not reading.late:  # with less to do beside it, it may be read in time
                    self._keep(image, reading)
            readings.append(reading)
        return readings

    def _recall(self, image: Image) -> Reading | None:
        with self._lock:
            reading = self._kept.get(image.digest)
            if reading is not None:
                self._kept.move_to_end(image.digest)
            return reading

    def _keep(self, image: Image, reading: Reading) -> None:
        with self._lock:
            self._kept[image.digest] = reading
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def _build(config: Config) -> ImageText:
    from gateway_image_text.reader import Reader  # OpenCV and onnxruntime come in only here

    reader = Reader(threads=config.threads, max_side=config.max_side, smallest=config.smallest, seconds=config.seconds)
    return ImageText(reader, workers=config.workers, cache=config.cache)


@hookimpl
def gateway_prescreeners() -> list[Stage[Any]]:
    """Offer `image-text`."""
    return [Stage("image-text", Config, _build)]
