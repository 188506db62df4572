"""Decode the images of requests off the event loop."""

from __future__ import annotations

import asyncio
import logging
import os

from gateway.errors import InvalidImage, RequestError, describe
from gateway.images import Limits, decode_image
from gateway.stages import in_thread
from gateway.values import Image
from gateway.wire.messages import Link

_log = logging.getLogger("gateway.web")


class Decoder:
    """Decodes the images of requests in threads, at most as many at once as there are processors."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._gate = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    async def images(self, links: tuple[Link, ...]) -> dict[str, Image]:
        """Decode `links`, by id; raises InvalidImage for the first, in reading order, that can not be decoded."""
        found = await asyncio.gather(*map(self._image, links), return_exceptions=True)
        images: dict[str, Image] = {}
        for link, image in zip(links, found, strict=True):
            if isinstance(image, BaseException):
                raise image
            images[link.id] = image
        return images

    async def _image(self, link: Link) -> Image:
        async with self._gate:
            try:
                return await in_thread(decode_image, link.url, id=link.id, limits=self._limits)
            except RequestError as exc:
                if exc.param is None:
                    exc.param = link.id
                raise
            except Exception as exc:  # noqa: BLE001 - a file that breaks a decoder is the caller's mistake, never a 500
                _log.warning("an image broke its decoder: %s", describe(exc))
                raise InvalidImage(
                    f"the image `{link.id}` can not be decoded; save it again as PNG or JPEG", param=link.id
                ) from None
